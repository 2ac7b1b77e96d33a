/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/sim_internal.h"

void weir__sim_options_init(struct weir__sim_options *options, uint64_t seed)
{
    *options = (struct weir__sim_options){
        .seed = seed,
        .steps_max = UINT64_MAX,
        .delay_ns_min = 1000,
        .delay_ns_max = 1000,
        .bandwidth_min = 1000000000,
        .bandwidth_max = 1000000000,
        .segment_bytes_min = 65536,
        .segment_bytes_max = 65536,
        .window_bytes_min = 1 << 30,
        .window_bytes_max = 1 << 30,
        .send_buffer_min = 1 << 18,
        .send_buffer_max = 1 << 18,
        .receive_buffer_min = 1 << 18,
        .receive_buffer_max = 1 << 18,
        .timeout_ns = 20000000000,
        .receive_bytes = 16384,
        .handles_max = 65536,
        .info = true,
        .stamps = true,
        .defer_ns_max = 1,
        .stamp_late_ns_max = 1,
        .stamp_queue_max = 157, /* what 128 KiB of SO_RCVBUF held */
        .fault_ns_max = 1,
        .zerocopy = true,
        .pinned_bytes_max = UINT64_MAX,
        .pins_max = UINT32_MAX,
        .notice_late_ns_max = 1,
    };
}

/* The fault is absent in half of the seeds, so that what others do shows unmixed. */
static unsigned draw_chance(struct sim *sim, unsigned per_mille_max)
{
    return weir__sim_chance(sim, 500) ? 0 : (unsigned)weir__sim_between(sim, 1, per_mille_max);
}

/* A number whose magnitude is uniform: as many draws below 1,000 as between 10^6 and 10^9. */
static uint64_t draw_magnitude(struct sim *sim, uint64_t low, uint64_t high)
{
    uint64_t top = high;
    while (top / 2 >= low && weir__sim_chance(sim, 700))
        top /= 2;
    return weir__sim_between(sim, low, top);
}

void weir__sim_options_draw(struct weir__sim_options *options, uint64_t seed)
{
    struct sim sim = {.random_state = seed ^ 0x776569726472u};

    weir__sim_options_init(options, seed);
    options->delay_ns_min = 1000;
    options->delay_ns_max = draw_magnitude(&sim, 1000, 300000000);
    options->bandwidth_min = draw_magnitude(&sim, 100000, 1000000000);
    options->bandwidth_max = draw_magnitude(&sim, options->bandwidth_min, 10000000000);
    options->send_latency_ns_max = draw_magnitude(&sim, 1, 2000000);
    options->segment_bytes_min = (uint32_t)draw_magnitude(&sim, 1000, 65536);
    options->segment_bytes_max =
        (uint32_t)weir__sim_between(&sim, options->segment_bytes_min, 65536);
    options->window_bytes_min = (uint32_t)draw_magnitude(&sim, 14600, 1 << 24);
    options->window_bytes_max = 1 << 25;
    options->loss = draw_chance(&sim, 100);
    options->send_buffer_min = (uint32_t)draw_magnitude(&sim, 4096, 1 << 20);
    options->send_buffer_max = 1 << 20;
    options->receive_buffer_min = (uint32_t)draw_magnitude(&sim, 4096, 1 << 20);
    options->receive_buffer_max = 1 << 20;
    options->ack_delay_ns_max = weir__sim_chance(&sim, 500) ? 0 : 40 * SIM_MSEC_NS;
    options->timeout_ns = weir__sim_between(&sim, 2000, 20000) * SIM_MSEC_NS;
    options->receive_bytes = (uint32_t)draw_magnitude(&sim, 1024, 65536);
    if (weir__sim_chance(&sim, 100))
        options->handles_max = (uint32_t)weir__sim_between(&sim, 2, 10);
    options->info = !weir__sim_chance(&sim, 200);
    options->info_counts_fin = weir__sim_chance(&sim, 500);
    options->stamps = !weir__sim_chance(&sim, 200);
    options->short_send = draw_chance(&sim, 500);
    options->short_receive = draw_chance(&sim, 500);
    options->defer = draw_chance(&sim, 500);
    options->send_late = draw_chance(&sim, 500);
    options->defer_ns_max = draw_magnitude(&sim, 1000, 20 * SIM_MSEC_NS);
    options->shuffle = draw_chance(&sim, 1000);
    options->stamp_loss = draw_chance(&sim, 1000);
    options->stamp_coalesce = draw_chance(&sim, 1000);
    options->stamp_late = draw_chance(&sim, 1000);
    options->stamp_late_ns_max = draw_magnitude(&sim, 1000, 500 * SIM_MSEC_NS);
    options->stamp_queue_max = (uint32_t)draw_magnitude(&sim, 1, 200);
    options->send_enobufs = draw_chance(&sim, 50);
    options->accept_emfile = draw_chance(&sim, 300);
    options->open_emfile = draw_chance(&sim, 100);
    options->connect_silence = draw_chance(&sim, 100);
    options->connection_reset = draw_chance(&sim, 500);
    options->connection_silence = draw_chance(&sim, 300);
    options->fault_ns_max = draw_magnitude(&sim, SIM_MSEC_NS, 5000 * (uint64_t)SIM_MSEC_NS);
    options->zerocopy = !weir__sim_chance(&sim, 100);
    options->copies = draw_chance(&sim, 1000);
    options->copies_change = draw_chance(&sim, 1000);
    if (weir__sim_chance(&sim, 300))
        options->pinned_bytes_max = draw_magnitude(&sim, 16384, 1 << 23);
    if (weir__sim_chance(&sim, 300))
        options->pins_max = (uint32_t)weir__sim_between(&sim, 1, 120);
    options->pin_refused = draw_chance(&sim, 200);
    options->notice_late = draw_chance(&sim, 1000);
    options->notice_late_ns_max = draw_magnitude(&sim, 1000, 500 * SIM_MSEC_NS);
    options->notice_coalesce = draw_chance(&sim, 800);
    options->register_refused = draw_chance(&sim, 1000);
}
