/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include <weir/weir.h>

/* Runs the installed library for real, if only for a moment: a loop, a post, a stop. */
static void stop(struct weir_loop *loop, void *context)
{
    *(int *)context += 1;
    weir_loop_stop(loop);
}

int main(void)
{
    struct weir_loop *loop;
    int ran = 0;
    int error = weir_loop_new(&loop, NULL);
    if (error) {
        fprintf(stderr, "weir_loop_new: %s\n", weir_error_text(error));
        return 1;
    }
    error = weir_loop_post(loop, stop, &ran);
    if (!error)
        error = weir_loop_run(loop);
    weir_loop_free(loop);
    if (error || ran != 1 || strcmp(weir_version(), WEIR_VERSION_TEXT) != 0)
        return 1;
    printf("weir %s\n", weir_version());
    return 0;
}
