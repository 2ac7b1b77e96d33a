/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include <weir/bio.h>

/* Runs the installed library, if only to be refused: standard input is no socket. */
int main(void)
{
    struct weir_bio_options options;
    weir_bio_options_init(&options);
    BIO *bio = weir_bio_new(0, &options);
    if (bio) {
        fprintf(stderr, "weir_bio_new took what is no socket\n");
        return 1;
    }
    return 0;
}
