/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/vendor.h"

/* Handshakes of every library with every other: versions, ciphers, keys, resumption, failures. */

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <weir/error.h>

#include "support/memory_fail.h"
#include "support/tls_pair.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static const uint16_t versions[] = {WEIR__TLS_1_2, WEIR__TLS_1_3};

static const struct {
    enum weir__tls_cipher cipher;
    enum weir__tls_hash hash;
    const char *names[2]; /* with TLS 1.2 and an ECDSA certificate, with 1.3 */
} ciphers[] = {
    {WEIR__TLS_AES_128_GCM,
     WEIR__TLS_SHA256,
     {"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"}},
    {WEIR__TLS_AES_256_GCM,
     WEIR__TLS_SHA384,
     {"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384"}},
    {WEIR__TLS_CHACHA20_POLY1305,
     WEIR__TLS_SHA256,
     {"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "TLS_CHACHA20_POLY1305_SHA256"}},
};

/* ---- keys ---- */

static void cipher_try(struct tls_pair *pair, unsigned version, unsigned cipher)
{
    const struct weir__tls_result *result = &pair->server.result;

    tls_pair_connect(pair);
    assert_int_equal(result->version, versions[version]);
    assert_int_equal(result->hash, ciphers[cipher].hash);
    assert_int_equal(result->tx.keys.cipher, ciphers[cipher].cipher);
    assert_string_equal(result->cipher_name, ciphers[cipher].names[version]);
    assert_string_equal(result->server_name, "a.example");
    assert_false(result->resumed);
    assert_false(result->peer_certificate);
    assert_true(pair->client.result.peer_certificate);
    tls_pair_exchange(pair);
    tls_pair_close(pair);
}

/* Run for both values of `tickets`: they are what moves the sequence. */
static void all_ciphers_try(struct tls_pair *pair)
{
    for (unsigned v = 0; v < LENGTH(versions); v++) {
        if (!tls_pair_has_version(pair, versions[v]))
            continue;
        tls_pair_versions(pair, versions[v], versions[v]);
        for (unsigned c = 0; c < LENGTH(ciphers); c++) {
            if (!tls_pair_has_cipher(pair, ciphers[c].cipher))
                continue;
            /* Whichever end limits it. */
            pair->client.config.ciphers = 1u << ciphers[c].cipher;
            pair->server.config.ciphers = 0;
            cipher_try(pair, v, c);
            pair->client.config.ciphers = 0;
            pair->server.config.ciphers = 1u << ciphers[c].cipher;
            cipher_try(pair, v, c);
        }
    }
}

static void test_keys_with_tickets(struct tls_pair *pair)
{
    all_ciphers_try(pair);
}

static void test_keys_without_tickets(struct tls_pair *pair)
{
    pair->server.config.tickets = NULL;
    all_ciphers_try(pair);
    tls_pair_versions(pair, WEIR__TLS_1_2, pair->client.vendor->version_max);
    pair->server.config.version_max = pair->server.vendor->version_max;
    pair->server.config.ciphers = 0;
    tls_pair_connect(pair);
    uint64_t sequence = pair->server.result.version == WEIR__TLS_1_3 ? 0 : 1;
    assert_int_equal(pair->server.result.tx.keys.sequence, sequence);
    assert_int_equal(pair->client.result.tx.keys.sequence, sequence);
}

/* Without a limit, AES-128-GCM and the newest version that both have. */
static void test_the_preferred_are_chosen(struct tls_pair *pair)
{
    tls_pair_connect(pair);
    assert_int_equal(pair->client.result.version,
                     tls_pair_has_version(pair, WEIR__TLS_1_3) ? WEIR__TLS_1_3 : WEIR__TLS_1_2);
    assert_int_equal(pair->client.result.tx.keys.cipher, WEIR__TLS_AES_128_GCM);
}

static void test_an_rsa_certificate(struct tls_pair *pair)
{
    tls_require(TLS_RSA, "an_rsa_certificate");
    pair->server.config.certificates = tls_certificate(TLS_RSA);
    pair->client.config.trust_file = tls_certificate(TLS_RSA)->certificate_file;
    for (unsigned v = 0; v < LENGTH(versions); v++) {
        if (!tls_pair_has_version(pair, versions[v]))
            continue;
        tls_pair_versions(pair, versions[v], versions[v]);
        tls_pair_connect(pair);
        if (versions[v] == WEIR__TLS_1_2)
            assert_string_equal(pair->client.result.cipher_name,
                                "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256");
        tls_pair_exchange(pair);
        tls_pair_close(pair);
    }
}

/* ---- versions ---- */

static void test_versions_meet(struct tls_pair *pair)
{
    pair->server.config.version_max = WEIR__TLS_1_2;
    tls_pair_connect(pair);
    assert_int_equal(pair->client.result.version, WEIR__TLS_1_2);
    tls_pair_close(pair);
    pair->client.config.version_max = WEIR__TLS_1_2;
    pair->server.config.version_max = pair->server.vendor->version_max;
    tls_pair_connect(pair);
    assert_int_equal(pair->server.result.version, WEIR__TLS_1_2);
}

static void test_versions_do_not_meet(struct tls_pair *pair)
{
    if (pair->server.vendor->version_max >= WEIR__TLS_1_3) {
        pair->client.config.version_max = WEIR__TLS_1_2;
        pair->server.config.version_min = WEIR__TLS_1_3;
        tls_pair_refuse(pair);
        assert_int_equal(pair->server.state, WEIR_ETLS);
        assert_true(pair->server.last_bytes > 0);
        tls_pair_close(pair);
    }
    if (pair->client.vendor->version_max >= WEIR__TLS_1_3) {
        pair->client.config.version_min = pair->client.config.version_max = WEIR__TLS_1_3;
        pair->server.config.version_min = pair->server.config.version_max = WEIR__TLS_1_2;
        tls_pair_refuse(pair);
        tls_pair_close(pair);
    }
}

static void test_ciphers_do_not_meet(struct tls_pair *pair)
{
    pair->client.config.ciphers = 1u << WEIR__TLS_AES_128_GCM;
    pair->server.config.ciphers = 1u << WEIR__TLS_AES_256_GCM;
    for (unsigned v = 0; v < LENGTH(versions); v++) {
        if (!tls_pair_has_version(pair, versions[v]))
            continue;
        tls_pair_versions(pair, versions[v], versions[v]);
        tls_pair_refuse(pair);
        assert_int_equal(pair->server.state, WEIR_ETLS);
        tls_pair_close(pair);
    }
}

/* ---- ALPN ---- */

static void alpn_try(struct tls_pair *pair, const char *const *client, unsigned client_count,
                     const char *const *server, unsigned server_count, const char *expected)
{
    pair->client.config.alpn = client;
    pair->client.config.alpn_count = client_count;
    pair->server.config.alpn = server;
    pair->server.config.alpn_count = server_count;
    for (unsigned v = 0; v < LENGTH(versions); v++) {
        if (!tls_pair_has_version(pair, versions[v]))
            continue;
        tls_pair_versions(pair, versions[v], versions[v]);
        tls_pair_connect(pair);
        assert_string_equal(pair->server.result.alpn, expected);
        assert_string_equal(pair->client.result.alpn, expected);
        tls_pair_close(pair);
    }
}

static void test_alpn(struct tls_pair *pair)
{
    static const char *const old_new[] = {"http/1.1", "h2"};
    static const char *const new_old[] = {"h2", "http/1.1"};
    static const char *const other[] = {"acme-tls/1"};

    alpn_try(pair, old_new, 2, new_old, 2, "h2"); /* the server's order */
    alpn_try(pair, old_new, 1, new_old, 2, "http/1.1");
    alpn_try(pair, other, 1, new_old, 2, "");
    alpn_try(pair, NULL, 0, new_old, 2, "");
    alpn_try(pair, old_new, 2, NULL, 0, "");
}

/* ---- resumption ---- */

/* Whether the client can resume in this version. */
static bool resumes(const struct tls_pair *pair, uint16_t version)
{
    return version == WEIR__TLS_1_3 ||
           !(pair->client.vendor->lacks & WEIR__TLS_LACKS_OLD_RESUMPTION);
}

static void skip_if_limited(const struct tls_pair *pair, const char *test)
{
    if (!resumes(pair, WEIR__TLS_1_2)) {
        printf("SKIP: %s: %s as a client resumes in TLS 1.3 only\n", test,
               pair->client.vendor->name);
        skip();
    }
}

/* A second handshake with what the first one left. */
static void resume_try(struct tls_pair *pair, bool resumes)
{
    tls_pair_connect(pair);
    assert_int_equal(pair->client.result.resumed, resumes);
    /* A client uses a ticket once: without a new one it would resume every other time. */
    if (resumes && pair->client.result.version == WEIR__TLS_1_3)
        assert_int_not_equal(pair->server.result.tx.keys.sequence, 0);
    assert_true(pair->client.result.peer_certificate);
    assert_string_equal(pair->server.result.server_name, "a.example");
    tls_pair_exchange(pair);
    tls_pair_close(pair);
}

/* A first handshake, whose session is saved. */
static void first_connect(struct tls_pair *pair)
{
    pair->client.options.resume = NULL;
    tls_pair_connect(pair);
    assert_false(pair->client.result.resumed);
    size_t length = tls_pair_save(pair);
    assert_int_equal(length > 0, resumes(pair, pair->client.result.version));
    tls_pair_close(pair);
}

static void resumption_try(struct tls_pair *pair)
{
    /* Contexts are new, as another server's of the fleet would be. */
    first_connect(pair);
    resume_try(pair, true);
    resume_try(pair, true);

    /* The old key still decrypts, and the client gets a ticket of the new one. */
    tls_tickets_fill(&pair->tickets, 2, 1);
    tls_pair_connect(pair);
    bool resumed = !(pair->server.vendor->lacks & WEIR__TLS_LACKS_OLD_TICKET_KEYS);
    assert_int_equal(pair->client.result.resumed, resumed);
    assert_int_not_equal(tls_pair_save(pair), 0);
    tls_pair_close(pair);
    tls_tickets_fill(&pair->tickets, 1, 1);
    bool renewed = !resumed || pair->client.result.version == WEIR__TLS_1_3 ||
                   !(pair->client.vendor->lacks & WEIR__TLS_LACKS_RENEWED_TICKETS ||
                     pair->server.vendor->lacks & WEIR__TLS_LACKS_TICKET_RENEWAL);
    resume_try(pair, renewed);

    /* An unknown key, or none: a full handshake. */
    tls_tickets_fill(&pair->tickets, 1, 100);
    resume_try(pair, false);
    pair->tickets.count = 0;
    resume_try(pair, false);
    tls_tickets_fill(&pair->tickets, 1, 2);
}

static void test_resumption(struct tls_pair *pair)
{
    for (unsigned v = 0; v < LENGTH(versions); v++) {
        if (!tls_pair_has_version(pair, versions[v]))
            continue;
        tls_pair_versions(pair, versions[v], versions[v]);
        for (unsigned c = 0; c < LENGTH(ciphers); c++) {
            if (!tls_pair_has_cipher(pair, ciphers[c].cipher))
                continue;
            pair->server.config.ciphers = 1u << ciphers[c].cipher;
            if (resumes(pair, versions[v]))
                resumption_try(pair);
            else
                first_connect(pair);
        }
    }
    skip_if_limited(pair, "resumption");
}

/* A name of the same key, but other secrets: the ticket's authentication fails. */
static void test_a_forged_ticket(struct tls_pair *pair)
{
    for (unsigned v = 0; v < LENGTH(versions); v++) {
        if (!tls_pair_has_version(pair, versions[v]))
            continue;
        tls_pair_versions(pair, versions[v], versions[v]);
        tls_tickets_fill(&pair->tickets, 1, 2);
        first_connect(pair);
        pair->tickets.keys[0].hmac_key[5] ^= 1;
        resume_try(pair, false);
    }
    skip_if_limited(pair, "a_forged_ticket");
}

static void test_sessions_of_others(struct tls_pair *pair)
{
    static const uint8_t garbage[100] = {1, 9, 'a', '.', 'e', 'x', 'a', 'm', 'p', 'l', 'e', 0x30};

    pair->client.config.peer = WEIR__TLS_PEER_UNVERIFIED_INSECURE;
    first_connect(pair);
    /* Nobody has verified it. */
    pair->client.config.peer = WEIR__TLS_PEER_REQUIRED;
    resume_try(pair, false);
    /* It is another server's. */
    first_connect(pair);
    pair->client.config.peer = WEIR__TLS_PEER_UNVERIFIED_INSECURE;
    pair->client.options.server_name = "b.example";
    tls_pair_connect(pair);
    assert_false(pair->client.result.resumed);
    tls_pair_close(pair);
    pair->client.config.peer = WEIR__TLS_PEER_REQUIRED;
    pair->client.options.server_name = "a.example";
    /* It is none, or part of one. */
    pair->client.options.resume = garbage;
    pair->client.options.resume_length = sizeof(garbage);
    resume_try(pair, false);
    pair->client.options.resume = pair->session;
    for (size_t cut = 0; cut < pair->session_length; cut += 1 + pair->session_length / 7) {
        pair->client.options.resume_length = cut;
        resume_try(pair, false);
    }
}

static void test_ticket_keys_change_meanwhile(struct tls_pair *pair)
{
    struct weir__tls_ticket_keys none = {.count = 0};

    tls_pair_open(pair);
    tls_tickets_fill(&pair->tickets, 2, 40);
    assert_int_equal(pair->server.vendor->context_set_tickets(pair->server.context, &pair->tickets),
                     0);
    tls_pair_run(pair);
    assert_int_equal(pair->server.state, WEIR__TLS_DONE);
    tls_pair_close(pair);
    tls_pair_open(pair);
    assert_int_equal(pair->server.vendor->context_set_tickets(pair->server.context, &none), 0);
    tls_pair_run(pair);
    assert_int_equal(pair->client.state, WEIR__TLS_DONE);
    assert_int_equal(pair->server.state, WEIR__TLS_DONE);
    assert_int_equal(pair->client.vendor->result(pair->client.handshake, &pair->client.result), 0);
    assert_int_equal(pair->server.vendor->result(pair->server.handshake, &pair->server.result), 0);
    tls_pair_exchange(pair);
}

/* ---- what is wrong ---- */

static size_t spoil_byte(struct tls_pair *pair, struct tls_end *to, uint8_t *record, size_t length)
{
    if (to == pair->end_to_spoil && to->records_in == pair->record_to_spoil) {
        record[5 + (length - 5) / 2] ^= 0x41;
        pair->spoiled = true;
    }
    return length;
}

/* The record ends early, and its header says so. */
static size_t spoil_end(struct tls_pair *pair, struct tls_end *to, uint8_t *record, size_t length)
{
    if (to == pair->end_to_spoil && to->records_in == pair->record_to_spoil && length > 6) {
        length = 5 + (length - 5) / 2;
        record[3] = (uint8_t)((length - 5) >> 8);
        record[4] = (uint8_t)(length - 5);
        pair->spoiled = true;
    }
    return length;
}

/* The record ends early, and its header does not say so. */
static size_t spoil_whole(struct tls_pair *pair, struct tls_end *to, uint8_t *record, size_t length)
{
    if (to == pair->end_to_spoil && to->records_in == pair->record_to_spoil) {
        length -= length > 5 ? 1 : 0;
        pair->spoiled = true;
    }
    (void)record;
    return length;
}

/* All bytes are others, but the header is right. */
static size_t spoil_all(struct tls_pair *pair, struct tls_end *to, uint8_t *record, size_t length)
{
    if (to == pair->end_to_spoil && to->records_in == pair->record_to_spoil) {
        for (size_t i = 5; i < length; i++)
            record[i] = (uint8_t)(i * 151 + 37);
        pair->spoiled = true;
    }
    return length;
}

static bool failed_well(const struct tls_end *end)
{
    return end->state == WEIR_ETLS && end->last_bytes > 0;
}

/* Spoils one record after the other, until there is none left to spoil. */
static void spoil_each(struct tls_pair *pair, struct tls_end *end, bool at_once)
{
    pair->end_to_spoil = end;
    for (pair->record_to_spoil = 1;; pair->record_to_spoil++) {
        tls_pair_open(pair);
        tls_pair_run(pair);
        bool spoiled = pair->spoiled;
        if (!spoiled) {
            assert_true(pair->record_to_spoil > 1);
            tls_pair_close(pair);
            return;
        }
        /* TLS 1.3: a client may be done before the server finds the fault in its last record. */
        assert_false(pair->client.state == WEIR__TLS_DONE && pair->server.state == WEIR__TLS_DONE);
        if (at_once)
            assert_int_equal(end->state, WEIR_ETLS);
        if (pair->client.state == WEIR_ETLS || pair->server.state == WEIR_ETLS)
            assert_true(failed_well(&pair->client) || failed_well(&pair->server));
        tls_pair_close(pair);
    }
}

static void spoil_try(struct tls_pair *pair,
                      size_t (*spoil)(struct tls_pair *, struct tls_end *, uint8_t *, size_t),
                      bool at_once)
{
    pair->on_record = spoil;
    for (unsigned v = 0; v < LENGTH(versions); v++) {
        if (!tls_pair_has_version(pair, versions[v]))
            continue;
        tls_pair_versions(pair, versions[v], versions[v]);
        spoil_each(pair, &pair->client, at_once);
        spoil_each(pair, &pair->server, at_once);
    }
    pair->on_record = NULL;
}

static void test_a_changed_byte(struct tls_pair *pair)
{
    spoil_try(pair, spoil_byte, false);
}

static void test_a_record_cut_short(struct tls_pair *pair)
{
    spoil_try(pair, spoil_end, false);
}

static void test_half_a_record(struct tls_pair *pair)
{
    spoil_try(pair, spoil_whole, true);
}

static void test_garbage(struct tls_pair *pair)
{
    spoil_try(pair, spoil_all, false);
}

/* Whatever comes first, a server says no and does not wait for more. */
static void test_a_first_record_of_another_kind(struct tls_pair *pair)
{
    static const uint8_t records[][12] = {
        {23, 3, 3, 0, 7, 1, 2, 3, 4, 5, 6, 7},  /* application data */
        {22, 3, 3, 0, 7, 2, 0, 0, 3, 3, 3, 1},  /* ServerHello */
        {22, 3, 3, 0, 7, 20, 0, 0, 3, 3, 3, 1}, /* Finished */
        {22, 3, 3, 0, 7, 1, 0, 0, 3, 9, 9, 9},  /* a ClientHello that is too short */
        {21, 3, 3, 0, 2, 2, 40},                /* an alert */
    };

    for (unsigned i = 0; i < LENGTH(records); i++) {
        size_t length = 5 + (size_t)records[i][4];
        tls_pair_open(pair);
        pair->server.state =
            pair->server.vendor->advance(pair->server.handshake, records[i], length);
        assert_int_equal(pair->server.state, WEIR_ETLS);
        if (records[i][0] != WEIR__TLS_ALERT)
            assert_true(pair->server.wire_length > 0);
        assert_non_null(pair->server.vendor->failure(pair->server.handshake));
        tls_pair_close(pair);
    }
}

static void test_a_name_that_is_none(struct tls_pair *pair)
{
    static const char *const names[] = {"", ".", "a..", "a b", "a\r\nb", "-\xc3\xa4", "a/b"};
    char big[400];
    const struct weir__tls_vendor *vendor = pair->client.vendor;
    struct weir__tls_handshake *handshake = NULL;

    tls_pair_open(pair);
    for (unsigned i = 0; i < LENGTH(names); i++) {
        pair->client.options.server_name = names[i];
        assert_int_equal(
            vendor->handshake_new(&handshake, pair->client.context, &pair->client.options),
            WEIR_EINVAL);
    }
    memset(big, 'a', sizeof(big));
    big[sizeof(big) - 1] = '\0';
    pair->client.options.server_name = big;
    assert_int_equal(vendor->handshake_new(&handshake, pair->client.context, &pair->client.options),
                     WEIR_EINVAL);
}

/* ---- memory ---- */

static bool setup_fails_at(struct tls_pair *pair, unsigned nth)
{
    struct weir__tls_complaint complaint;
    int rc = 0;

    memory_fail_at(nth);
    struct tls_end *ends[] = {&pair->server, &pair->client};
    for (unsigned i = 0; rc == 0 && i < 2; i++) {
        rc = ends[i]->vendor->context_new(&ends[i]->context, &ends[i]->config, &complaint);
        if (rc == 0)
            rc = ends[i]->vendor->handshake_new(&ends[i]->handshake, ends[i]->context,
                                                &ends[i]->options);
        ends[i]->state = WEIR__TLS_MORE;
    }
    if (rc == 0)
        tls_pair_run(pair);
    bool happened = memory_fail_happened();
    memory_fail_at(0);
    if (happened)
        assert_true(rc == WEIR_ENOMEM || pair->client.state == WEIR_ENOMEM ||
                    pair->server.state == WEIR_ENOMEM || pair->server.state == WEIR__TLS_DONE);
    else
        assert_int_equal(pair->server.state, WEIR__TLS_DONE);
    tls_pair_close(pair);
    return happened;
}

static void test_memory_runs_out(struct tls_pair *pair)
{
    size_t live = memory_fail_live();
    unsigned nth = 1;

    while (setup_fails_at(pair, nth)) {
        assert_int_equal(memory_fail_live(), live);
        nth++;
    }
    assert_true(nth > 4); /* two contexts and two handshakes at least */
    assert_int_equal(memory_fail_live(), live);
}

/* The end's nth emit finds no memory. Returns whether there was an nth. */
static bool emit_fails_at(struct tls_pair *pair, struct tls_end *end, unsigned nth)
{
    end->emit_fails_at = nth;
    tls_pair_open(pair);
    tls_pair_run(pair);
    bool reached = end->emits >= nth;
    assert_int_equal(end->state, reached ? WEIR_ENOMEM : WEIR__TLS_DONE);
    tls_pair_close(pair);
    end->emit_fails_at = 0;
    return reached;
}

static void test_nobody_takes_the_bytes(struct tls_pair *pair)
{
    struct tls_end *ends[] = {&pair->client, &pair->server};

    for (unsigned i = 0; i < LENGTH(ends); i++) {
        unsigned nth = 1;
        while (emit_fails_at(pair, ends[i], nth))
            nth++;
        assert_true(nth > 1);
    }
}

/* ---- the key log ---- */

static void line_take(void *context, const char *line)
{
    struct tls_end *end = context;

    assert_in_range(end->line_count, 0, TLS_LINES_MAX - 1);
    end->lines[end->line_count] = strdup(line);
    assert_non_null(end->lines[end->line_count++]);
}

static const char *line_find(const struct tls_end *end, const char *label)
{
    const char *found = NULL;

    for (unsigned i = 0; i < end->line_count; i++) {
        if (strncmp(end->lines[i], label, strlen(label)) == 0 &&
            end->lines[i][strlen(label)] == ' ') {
            assert_null(found);
            found = end->lines[i];
        }
    }
    return found;
}

static void assert_line(const char *line, const char *label, size_t secret_bytes)
{
    const char *random = line + strlen(label) + 1;

    assert_int_equal(strspn(random, "0123456789abcdefABCDEF"), 64);
    assert_int_equal(random[64], ' ');
    assert_int_equal(strspn(random + 65, "0123456789abcdefABCDEF"), 2 * secret_bytes);
    assert_int_equal(random[65 + 2 * secret_bytes], '\0');
}

static void lines_check(const struct tls_end *end, const char *const *labels, unsigned count,
                        size_t secret_bytes)
{
    for (unsigned i = 0; i < count; i++) {
        const char *line = line_find(end, labels[i]);
        if (!line)
            fail_msg("%s: no line of %s", end->vendor->name, labels[i]);
        assert_line(line, labels[i], secret_bytes);
    }
}

static void test_key_log(struct tls_pair *pair)
{
    static const char *const old[] = {"CLIENT_RANDOM"};
    static const char *const new[] = {
        "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
        "SERVER_HANDSHAKE_TRAFFIC_SECRET",
        "CLIENT_TRAFFIC_SECRET_0",
        "SERVER_TRAFFIC_SECRET_0",
    };
    struct tls_end *ends[] = {&pair->client, &pair->server};

    for (unsigned v = 0; v < LENGTH(versions); v++) {
        bool is_new = versions[v] == WEIR__TLS_1_3;
        if (!tls_pair_has_version(pair, versions[v]))
            continue;
        tls_pair_versions(pair, versions[v], versions[v]);
        for (unsigned i = 0; i < 2; i++) {
            ends[i]->config.key_log = line_take;
            ends[i]->config.key_log_context = ends[i];
        }
        tls_pair_connect(pair);
        for (unsigned i = 0; i < 2; i++)
            lines_check(ends[i], is_new ? new : old, is_new ? LENGTH(new) : LENGTH(old),
                        is_new ? 32 : 48);
        for (unsigned i = 0; i < (is_new ? LENGTH(new) : LENGTH(old)); i++) {
            const char *label = is_new ? new[i] : old[i];
            assert_int_equal(
                strcasecmp(line_find(&pair->client, label), line_find(&pair->server, label)), 0);
        }
        tls_pair_close(pair);
    }
}

/* ---- threads ---- */

/* Contexts and handshakes of its own, again and again; an assertion that fails here ends the program. */
static void *thread_run(void *argument)
{
    const struct tls_pair *model = argument;
    struct tls_pair *pair = tls_pair_new(model->client.vendor, model->server.vendor);

    for (unsigned i = 0; i < 6; i++) {
        tls_pair_connect(pair);
        tls_pair_close(pair);
    }
    tls_pair_free(pair);
    return NULL;
}

static void test_threads_share_nothing(struct tls_pair *pair)
{
    pthread_t threads[3];

    for (unsigned i = 0; i < LENGTH(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, thread_run, pair), 0);
    for (unsigned i = 0; i < LENGTH(threads); i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
}

int main(void)
{
    static const struct tls_test tests[] = {
        {"keys_with_tickets", test_keys_with_tickets, false},
        {"keys_without_tickets", test_keys_without_tickets, false},
        {"the_preferred_are_chosen", test_the_preferred_are_chosen, false},
        {"an_rsa_certificate", test_an_rsa_certificate, false},
        {"versions_meet", test_versions_meet, false},
        {"versions_do_not_meet", test_versions_do_not_meet, false},
        {"ciphers_do_not_meet", test_ciphers_do_not_meet, false},
        {"alpn", test_alpn, false},
        {"resumption", test_resumption, false},
        {"a_forged_ticket", test_a_forged_ticket, false},
        {"sessions_of_others", test_sessions_of_others, false},
        {"ticket_keys_change_meanwhile", test_ticket_keys_change_meanwhile, false},
        {"a_changed_byte", test_a_changed_byte, false},
        {"a_record_cut_short", test_a_record_cut_short, false},
        {"half_a_record", test_half_a_record, false},
        {"garbage", test_garbage, false},
        {"a_first_record_of_another_kind", test_a_first_record_of_another_kind, true},
        {"a_name_that_is_none", test_a_name_that_is_none, true},
        {"memory_runs_out", test_memory_runs_out, false},
        {"nobody_takes_the_bytes", test_nobody_takes_the_bytes, false},
        {"key_log", test_key_log, false},
        {"threads_share_nothing", test_threads_share_nothing, true},
    };
    return tls_suite_run("tls_vendor", tests, LENGTH(tests));
}
