/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_SERVER_EXPLAIN_TRIAL_H
#define WEIR_SERVER_EXPLAIN_TRIAL_H

/* One send with zero copy over loopback, by a loop and streams as a server has them. */

#include <stdbool.h>
#include <stddef.h>

#include <weir/stream.h>

#define WEIR__TRIAL_BYTES    (64u * 1024u)
#define WEIR__TRIAL_LIMIT_MS 2000

enum weir__trial_outcome {
    WEIR__TRIAL_NONE, /* there is no zero copy, or no send could be made, or nothing came of it in time */
    WEIR__TRIAL_USED,
    WEIR__TRIAL_COPIED,
    WEIR__TRIAL_REFUSED,
};

struct weir__trial {
    char engine[16];         /* of --engine auto; "" = none works */
    bool zerocopy;           /* it has that */
    size_t file_piece_bytes; /* of a file, for one call; 0 = no bound */
    enum weir__trial_outcome outcome;
};

/* Takes at most WEIR__TRIAL_LIMIT_MS. */
void weir__trial_run(struct weir__trial *trial);

/* The same, as an enum weir__pin_result. Of NONE there is none. */
int weir__trial_pin_result(enum weir__trial_outcome outcome);

#endif
