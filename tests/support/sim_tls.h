/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_TESTS_SIM_TLS_H
#define WEIR_TESTS_SIM_TLS_H

/* The part of the simulation's random program and of its model that is about TLS, with the toy library. */

#include "support/sim_model.h"

/* Whether this seed has TLS, and what of it; by randomness of its own, so that the others stay as they are. */
void sim_tls_draw(void);
/* Makes and frees both contexts. */
void sim_tls_begin(void);
void sim_tls_end(void);
/* Puts TLS on a stream that has just begun. False: memory is out. */
bool sim_tls_put(struct end *end, struct weir_stream *stream);
/* One action of the program that only TLS has. */
void sim_tls_act(struct end *end);

/* What a direction carries; NULL without TLS. */
const struct wire *sim_tls_wire(const struct weir__sim_flow *flow);

/* ---- the model ---- */

/* Notes what the kernel has taken over. */
void sim_tls_look(struct end *end);
/* The handshake is done. */
void sim_tls_check_open(const struct end *end);
/* A close_notify that is there, behind all that was read, has been told before long. */
void sim_tls_check_end(const struct end *end);
/* Whether a reason of on_close is TLS's, and if so, whether it may be. */
bool sim_tls_check_reason(const struct end *end, int reason);
/* Counts what was seen, when a stream is closed. */
void sim_tls_note_closed(struct end *end, int reason);

#endif
