/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <weir/version.h>

#include "server/doctor.h"
#include "server/explain.h"
#include "server/options.h"
#include "server/serve.h"

/*
 * Whoever started us may have closed some of the three, and the next descriptors to be opened would take
 * their places: messages and log lines would then go into a socket. For reading only, so that writing
 * still fails and is told.
 */
static void fill_standard_descriptors(void)
{
    int descriptor;

    do
        descriptor = open("/dev/null", O_RDONLY);
    while (descriptor >= 0 && descriptor <= STDERR_FILENO);
    if (descriptor >= 0)
        close(descriptor);
}

static int run_doctor(const struct weir__options *options)
{
    return options->explain ? weir__explain_run(options->json, stdout)
                            : weir__doctor_run(options->json, stdout);
}

int main(int argc, char **argv)
{
    struct weir__options options;
    char error[WEIR__OPTIONS_ERROR_MAX];

    fill_standard_descriptors();

    if (weir__options_parse(&options, argc, argv, error) != 0) {
        fprintf(stderr, "weir: %s\n", error);
        return WEIR__OPTIONS_EXIT_STATUS;
    }
    switch (options.command) {
    case WEIR__COMMAND_SERVE:
        return weir__serve(&options);
    case WEIR__COMMAND_DOCTOR:
        return run_doctor(&options) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
    case WEIR__COMMAND_HELP:
        fputs(options.help, stdout);
        break;
    case WEIR__COMMAND_VERSION:
        printf("weir %s\n", weir_version());
        break;
    }
    return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
