/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>

#include <weir/version.h>

#include "server/doctor.h"
#include "server/options.h"
#include "server/serve.h"

int main(int argc, char **argv)
{
    struct weir__options options;
    char error[WEIR__OPTIONS_ERROR_MAX];

    if (weir__options_parse(&options, argc, argv, error) != 0) {
        fprintf(stderr, "weir: %s\n", error);
        return WEIR__OPTIONS_EXIT_STATUS;
    }
    switch (options.command) {
    case WEIR__COMMAND_SERVE:
        return weir__serve(&options);
    case WEIR__COMMAND_DOCTOR:
        return weir__doctor_run(options.json, stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
    case WEIR__COMMAND_HELP:
        fputs(options.help, stdout);
        break;
    case WEIR__COMMAND_VERSION:
        printf("weir %s\n", weir_version());
        break;
    }
    return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
