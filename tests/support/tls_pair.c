/* SPDX-License-Identifier: Apache-2.0 */
#include "support/tls_pair.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <weir/error.h>

#include "support/memory_fail.h"

#define SUITE_MAX 1024

/* ---- certificates ---- */

static char folder[64];
static char paths[TLS_IDENTITIES][2][128];
static struct weir__tls_certificate certificates[TLS_IDENTITIES];
static bool made[TLS_IDENTITIES];
static const char *const identity_names[TLS_IDENTITIES] = {"a",     "b",   "expired", "client",
                                                           "other", "rsa", "chain",   "root"};

static void text_write(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert(file);
    assert(fputs(text, file) >= 0);
    assert(fclose(file) == 0);
}

static void self_signed_make(enum tls_identity identity, const char *const *names, unsigned count,
                             unsigned days)
{
    const struct weir__tls_vendor *vendor = NULL;
    char certificate[WEIR__TLS_SELF_SIGNED_MAX], key[WEIR__TLS_SELF_SIGNED_MAX];

    for (unsigned i = 0; !vendor && weir__tls_vendors[i]; i++) {
        if (weir__tls_vendors[i]->self_signed)
            vendor = weir__tls_vendors[i];
    }
    assert(vendor);
    int rc =
        vendor->self_signed(names, count, days, certificate, sizeof(certificate), key, sizeof(key));
    assert(rc == 0);
    (void)rc;
    text_write(paths[identity][0], certificate);
    text_write(paths[identity][1], key);
    made[identity] = true;
}

/* What self_signed does not make. */
static void by_command(void)
{
    static const char script[] =
        "cd %s && exec >log 2>&1 && set -e\n"
        "new='openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'\n"
        "openssl req -x509 -newkey rsa:2048 -nodes -days 3 -subj /CN=a.example "
        "-addext subjectAltName=DNS:a.example -keyout rsa.key -out rsa.pem\n"
        "$new -x509 -days 3 -subj /CN=root -keyout root.key -out root.pem\n"
        "printf 'basicConstraints=critical,CA:TRUE\\nkeyUsage=keyCertSign\\n' >ca.ext\n"
        "printf 'subjectAltName=DNS:a.example\\n' >leaf.ext\n"
        "$new -subj /CN=intermediate -keyout middle.key -out middle.csr\n"
        "openssl x509 -req -days 3 -in middle.csr -CA root.pem -CAkey root.key -CAcreateserial "
        "-extfile ca.ext -out middle.pem\n"
        "$new -subj /CN=a.example -keyout chain.key -out chain.csr\n"
        "openssl x509 -req -days 3 -in chain.csr -CA middle.pem -CAkey middle.key "
        "-CAcreateserial -extfile leaf.ext -out leaf.pem\n"
        "cat leaf.pem middle.pem >chain.pem\n";
    char command[2048];

    int length = snprintf(command, sizeof(command), script, folder);
    assert(length > 0 && (size_t)length < sizeof(command));
    made[TLS_RSA] = made[TLS_CHAIN] = made[TLS_ROOT] = system(command) == 0;
}

static int folder_make(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/weir-tls-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    for (unsigned i = 0; i < TLS_IDENTITIES; i++) {
        snprintf(paths[i][0], sizeof(paths[i][0]), "%s/%s.pem", folder, identity_names[i]);
        snprintf(paths[i][1], sizeof(paths[i][1]), "%s/%s.key", folder, identity_names[i]);
        certificates[i].certificate_file = paths[i][0];
        certificates[i].key_file = paths[i][1];
    }
    self_signed_make(TLS_A, (const char *const[]){"a.example", "127.0.0.1", "::1"}, 3, 3);
    self_signed_make(TLS_B, (const char *const[]){"b.example", "*.wild.example"}, 2, 3);
    self_signed_make(TLS_EXPIRED, (const char *const[]){"a.example"}, 1, 0);
    self_signed_make(TLS_CLIENT, (const char *const[]){"client.example"}, 1, 3);
    self_signed_make(TLS_OTHER, (const char *const[]){"other.example"}, 1, 3);
    by_command();
    return 0;
}

static int folder_remove(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof(command), "rm -r %s", folder);
    return system(command);
}

const struct weir__tls_certificate *tls_certificate(enum tls_identity identity)
{
    return made[identity] ? &certificates[identity] : NULL;
}

void tls_require(enum tls_identity identity, const char *test)
{
    if (!made[identity]) {
        printf("SKIP: %s: the openssl command is missing\n", test);
        skip();
    }
}

const char *tls_file(const char *name, const char *text)
{
    static char path[128];

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    text_write(path, text);
    return path;
}

/* ---- the suite ---- */

struct tls_case {
    char name[128];
    const struct weir__tls_vendor *client, *server;
    const struct tls_test *test;
    struct tls_pair *pair;
    size_t live;
};

void tls_tickets_fill(struct weir__tls_ticket_keys *tickets, unsigned count, uint8_t first)
{
    tickets->count = count;
    for (unsigned i = 0; i < count; i++) {
        memset(tickets->keys[i].name, first + (int)i, sizeof(tickets->keys[i].name));
        memset(tickets->keys[i].hmac_key, first + 16 + (int)i, sizeof(tickets->keys[i].hmac_key));
        memset(tickets->keys[i].cipher_key, first + 32 + (int)i,
               sizeof(tickets->keys[i].cipher_key));
    }
}

static int end_emit(void *emit_context, const uint8_t *bytes, size_t length)
{
    struct tls_end *end = emit_context;

    if (++end->emits == end->emit_fails_at)
        return WEIR_ENOMEM;
    assert_true(length > 0 && length <= TLS_WIRE_MAX - end->wire_length);
    memcpy(end->wire + end->wire_length, bytes, length);
    end->wire_length += length;
    return 0;
}

static void end_init(struct tls_end *end, struct tls_pair *pair,
                     const struct weir__tls_vendor *vendor)
{
    end->pair = pair;
    end->vendor = vendor;
    end->wire = malloc(TLS_WIRE_MAX);
    assert_non_null(end->wire);
    end->config.version_min = WEIR__TLS_1_2;
    end->config.version_max = vendor->version_max;
    end->options.emit = end_emit;
    end->options.emit_context = end;
}

struct tls_pair *tls_pair_new(const struct weir__tls_vendor *client,
                              const struct weir__tls_vendor *server)
{
    struct tls_pair *pair = calloc(1, sizeof(*pair));

    assert(pair);
    end_init(&pair->client, pair, client);
    end_init(&pair->server, pair, server);
    tls_tickets_fill(&pair->tickets, 1, 2);
    pair->server.config.server = true;
    pair->server.config.certificates = tls_certificate(TLS_A);
    pair->server.config.certificate_count = 1;
    pair->server.config.tickets = &pair->tickets;
    pair->client.config.peer = WEIR__TLS_PEER_REQUIRED;
    pair->client.config.trust_file = tls_certificate(TLS_A)->certificate_file;
    pair->client.options.server_name = "a.example";
    return pair;
}

void tls_pair_free(struct tls_pair *pair)
{
    tls_pair_close(pair);
    free(pair->client.wire);
    free(pair->server.wire);
    free(pair);
}

static int case_setup(void **state)
{
    struct tls_case *c = *state;

    c->live = memory_fail_live();
    c->pair = tls_pair_new(c->client, c->server);
    return 0;
}

static void case_run(void **state)
{
    struct tls_case *c = *state;

    c->test->run(c->pair);
    tls_pair_close(c->pair);
    assert_int_equal(memory_fail_live(), c->live);
}

static int case_teardown(void **state)
{
    struct tls_case *c = *state;

    memory_fail_at(0);
    tls_pair_free(c->pair);
    return 0;
}

int tls_suite_run(const char *suite, const struct tls_test *tests, size_t count)
{
    static struct tls_case cases[SUITE_MAX];
    static struct CMUnitTest units[SUITE_MAX];
    const struct weir__tls_vendor *const *vendors = weir__tls_vendors;
    size_t total = 0;

    if (!vendors[0]) {
        printf("SKIP: %s: this build has no TLS library\n", suite);
        return 77;
    }
    memory_fail_install();
    for (unsigned i = 0; vendors[i]; i++) {
        for (unsigned j = 0; vendors[j]; j++) {
            for (size_t t = 0; t < count; t++) {
                struct tls_case *c = &cases[total];
                if (tests[t].alone && i != j)
                    continue;
                assert(total < SUITE_MAX);
                c->client = vendors[i];
                c->server = vendors[j];
                c->test = &tests[t];
                snprintf(c->name, sizeof(c->name), "%s to %s: %s", vendors[i]->name,
                         vendors[j]->name, tests[t].name);
                units[total++] = (struct CMUnitTest){.name = c->name,
                                                     .test_func = case_run,
                                                     .setup_func = case_setup,
                                                     .teardown_func = case_teardown,
                                                     .initial_state = c};
            }
        }
    }
    return _cmocka_run_group_tests(suite, units, total, folder_make, folder_remove);
}

/* ---- a pair's life ---- */

static void end_open(struct tls_end *end)
{
    struct weir__tls_complaint complaint;

    int rc = end->vendor->context_new(&end->context, &end->config, &complaint);
    if (rc != 0)
        fail_msg("%s: %s: %s", end->vendor->name, weir_error_name(rc), complaint.text);
    assert_int_equal(end->vendor->handshake_new(&end->handshake, end->context, &end->options), 0);
    end->state = WEIR__TLS_MORE;
}

void tls_pair_open(struct tls_pair *pair)
{
    pair->spoiled = false;
    end_open(&pair->server);
    end_open(&pair->client);
}

static void end_close(struct tls_end *end)
{
    end->vendor->handshake_free(end->handshake);
    end->handshake = NULL;
    end->vendor->context_free(end->context);
    end->context = NULL;
    end->wire_length = end->wire_read = 0;
    end->emits = 0;
    end->records_in = 0;
    end->state = WEIR__TLS_MORE;
    while (end->line_count > 0)
        free(end->lines[--end->line_count]);
}

void tls_pair_close(struct tls_pair *pair)
{
    end_close(&pair->client);
    end_close(&pair->server);
}

static void end_advance(struct tls_end *end, const uint8_t *record, size_t length)
{
    size_t before = end->wire_length;

    end->state = end->vendor->advance(end->handshake, record, length);
    end->last_bytes = end->wire_length - before;
    assert_true(end->state == WEIR__TLS_MORE || end->state == WEIR__TLS_DONE ||
                end->state == WEIR_ETLS || end->state == WEIR_ENOMEM);
}

/* The record that `from` has emitted next, in memory of its own so that reading past its end is found. */
static uint8_t *record_take(struct tls_end *from, size_t *length)
{
    const uint8_t *next = from->wire + from->wire_read;
    size_t left = from->wire_length - from->wire_read;

    if (left == 0)
        return NULL;
    int64_t whole = weir__tls_frame(next, left, 0);
    assert_true(whole > 0 && (size_t)whole <= left);
    uint8_t *record = malloc((size_t)whole);
    assert_non_null(record);
    memcpy(record, next, (size_t)whole);
    from->wire_read += (size_t)whole;
    *length = (size_t)whole;
    return record;
}

static bool move(struct tls_pair *pair, struct tls_end *from, struct tls_end *to)
{
    size_t length;

    if (to->state != WEIR__TLS_MORE)
        return false;
    uint8_t *record = record_take(from, &length);
    if (!record)
        return false;
    to->records_in++;
    if (pair->on_record)
        length = pair->on_record(pair, to, record, length);
    end_advance(to, record, length);
    free(record);
    return true;
}

void tls_pair_run(struct tls_pair *pair)
{
    end_advance(&pair->client, NULL, 0);
    for (bool moved = true; moved;) {
        moved = move(pair, &pair->client, &pair->server);
        moved = move(pair, &pair->server, &pair->client) || moved;
    }
}

static unsigned records_unread(const struct tls_end *end)
{
    unsigned count = 0;

    for (size_t at = end->wire_read; at < end->wire_length; count++)
        at += 5 + ((size_t)end->wire[at + 3] << 8 | end->wire[at + 4]);
    return count;
}

static void assert_same_keys(const struct tls_end *from, const struct tls_end *to)
{
    const struct weir__tls_secret *tx = &from->result.tx, *rx = &to->result.rx;
    bool salted =
        tx->keys.version == WEIR__TLS_1_2 && tx->keys.cipher != WEIR__TLS_CHACHA20_POLY1305;

    assert_int_equal(tx->keys.version, rx->keys.version);
    assert_int_equal(tx->keys.version, from->result.version);
    assert_int_equal(tx->keys.cipher, rx->keys.cipher);
    assert_memory_equal(tx->keys.key, rx->keys.key, weir__tls_key_bytes(tx->keys.cipher));
    assert_memory_equal(tx->keys.iv, rx->keys.iv, salted ? WEIR__TLS_SALT : WEIR__TLS_NONCE);
    assert_int_equal(tx->keys.sequence, rx->keys.sequence + records_unread(from));
    if (from->result.version == WEIR__TLS_1_2)
        assert_true(tx->secret_length == 0 && rx->secret_length == 0);
    if (tx->secret_length > 0 && rx->secret_length > 0) {
        assert_int_equal(tx->secret_length, rx->secret_length);
        assert_memory_equal(tx->secret, rx->secret, tx->secret_length);
    }
}

static void assert_done(struct tls_end *end)
{
    if (end->state != WEIR__TLS_DONE)
        fail_msg("the %s (%s) did not finish: %d: %s", end->config.server ? "server" : "client",
                 end->vendor->name, end->state, end->vendor->failure(end->handshake));
    memset(&end->result, 0xa5, sizeof(end->result));
    assert_int_equal(end->vendor->result(end->handshake, &end->result), 0);
}

void tls_pair_connect(struct tls_pair *pair)
{
    const struct weir__tls_result *client = &pair->client.result, *server = &pair->server.result;

    tls_pair_open(pair);
    tls_pair_run(pair);
    assert_done(&pair->client);
    assert_done(&pair->server);
    assert_int_equal(client->version, server->version);
    assert_int_equal(client->hash, server->hash);
    assert_int_equal(client->resumed, server->resumed);
    assert_string_equal(client->cipher_name, server->cipher_name);
    assert_string_equal(client->alpn, server->alpn);
    assert_string_equal(client->server_name, "");
    assert_same_keys(&pair->client, &pair->server);
    assert_same_keys(&pair->server, &pair->client);
}

/* TLS 1.3: a client may think that it is done before the server has looked at its certificate. */
void tls_pair_refuse(struct tls_pair *pair)
{
    struct tls_end *client = &pair->client, *server = &pair->server;

    tls_pair_open(pair);
    tls_pair_run(pair);
    assert_true(client->state == WEIR_ETLS || server->state == WEIR_ETLS);
    assert_int_not_equal(server->state, WEIR__TLS_DONE);
    if (client->state == WEIR_ETLS && server->state == WEIR_ETLS)
        assert_true(client->wire_length > 0 && client->last_bytes + server->last_bytes > 0);
    else
        assert_true((client->state == WEIR_ETLS ? client : server)->last_bytes > 0);
}

void tls_pair_versions(struct tls_pair *pair, uint16_t min, uint16_t max)
{
    pair->client.config.version_min = pair->server.config.version_min = min;
    pair->client.config.version_max = pair->server.config.version_max = max;
}

bool tls_pair_has_version(const struct tls_pair *pair, uint16_t version)
{
    return pair->client.vendor->version_max >= version &&
           pair->server.vendor->version_max >= version;
}

static bool vendor_has_cipher(const struct weir__tls_vendor *vendor, enum weir__tls_cipher cipher)
{
    static const uint8_t key[WEIR__TLS_KEY_MAX];
    struct weir__tls_aead *aead = NULL;

    int rc = vendor->ciphers.aead_new(&aead, cipher, key, true);
    vendor->ciphers.aead_free(rc == 0 ? aead : NULL);
    return rc == 0;
}

bool tls_pair_has_cipher(const struct tls_pair *pair, enum weir__tls_cipher cipher)
{
    return vendor_has_cipher(pair->client.vendor, cipher) &&
           vendor_has_cipher(pair->server.vendor, cipher);
}

/* ---- after the handshake ---- */

#define NEW_SESSION_TICKET 4

static uint8_t room[WEIR__TLS_PLAIN_MAX + WEIR__TLS_EXPAND_MAX];

/* Opens what the server sent behind its handshake, which can only be tickets. */
static void tickets_open(struct tls_pair *pair, bool take)
{
    struct tls_end *client = &pair->client;
    struct weir__tls_protector rx;
    uint8_t *record;
    size_t length;

    assert_int_equal(
        weir__tls_protector_init(&rx, &client->vendor->ciphers, &client->result.rx.keys, false), 0);
    while ((record = record_take(&pair->server, &length))) {
        struct weir__tls_opened opened;
        assert_int_equal(weir__tls_open(&rx, record, length, room, &opened), 0);
        assert_int_equal(opened.type, WEIR__TLS_HANDSHAKE);
        assert_int_equal(opened.data[0], NEW_SESSION_TICKET);
        if (take)
            assert_int_equal(client->vendor->post_record(client->handshake, record, length), 0);
        free(record);
    }
    client->result.rx.keys = rx.keys;
    weir__tls_protector_dispose(&rx);
    assert_int_equal(client->result.rx.keys.sequence, pair->server.result.tx.keys.sequence);
}

size_t tls_pair_save(struct tls_pair *pair)
{
    struct tls_end *client = &pair->client;
    size_t sent = client->wire_length;
    uint8_t little[1];

    tickets_open(pair, true);
    int length =
        client->vendor->session_save(client->handshake, pair->session, sizeof(pair->session));
    assert_true(length >= 0);
    if (length > 0)
        assert_int_equal(client->vendor->session_save(client->handshake, little, sizeof(little)),
                         WEIR_ENOBUFS);
    assert_int_equal(client->wire_length, sent);
    pair->session_length = (size_t)length;
    client->options.resume = pair->session;
    client->options.resume_length = pair->session_length;
    return pair->session_length;
}

static void exchange_one(struct tls_end *from, struct tls_end *to)
{
    static const char text[] = "ten pieces of silver";
    const struct iovec parts[] = {{(void *)text, 4}, {(void *)(text + 4), sizeof(text) - 4}};
    uint8_t record[256];
    struct weir__tls_protector tx, rx;

    assert_int_equal(
        weir__tls_protector_init(&tx, &from->vendor->ciphers, &from->result.tx.keys, true), 0);
    assert_int_equal(
        weir__tls_protector_init(&rx, &to->vendor->ciphers, &to->result.rx.keys, false), 0);
    for (unsigned i = 0; i < 3; i++) {
        struct weir__tls_opened opened;
        int64_t length = weir__tls_seal(&tx, WEIR__TLS_APPLICATION_DATA, parts, 2, record);
        assert_true(length > 0);
        assert_int_equal(weir__tls_open(&rx, record, (size_t)length, room, &opened), 0);
        assert_int_equal(opened.type, WEIR__TLS_APPLICATION_DATA);
        assert_int_equal(opened.length, sizeof(text));
        assert_memory_equal(opened.data, text, sizeof(text));
    }
    weir__tls_protector_dispose(&tx);
    weir__tls_protector_dispose(&rx);
}

void tls_pair_exchange(struct tls_pair *pair)
{
    if (pair->server.wire_read < pair->server.wire_length)
        tickets_open(pair, false);
    exchange_one(&pair->client, &pair->server);
    exchange_one(&pair->server, &pair->client);
}
