/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/vendor.h"

/* Who is who: names, trust, a client's certificate, and which of a server's is shown. */

#include <stdio.h>
#include <string.h>

#include <weir/error.h>

#include "support/tls_pair.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static const uint16_t versions[] = {WEIR__TLS_1_2, WEIR__TLS_1_3};

/* Runs `try` with each version that both have. */
static void each_version(struct tls_pair *pair, tls_test_fn try)
{
    for (unsigned v = 0; v < LENGTH(versions); v++) {
        if (!tls_pair_has_version(pair, versions[v]))
            continue;
        tls_pair_versions(pair, versions[v], versions[v]);
        try(pair);
        tls_pair_close(pair);
    }
}

static const char *file_of(enum tls_identity identity)
{
    return tls_certificate(identity)->certificate_file;
}

/* ---- what a client checks ---- */

static void good_try(struct tls_pair *pair)
{
    tls_pair_connect(pair);
    assert_true(pair->client.result.peer_certificate);
}

static void refused_try(struct tls_pair *pair)
{
    tls_pair_refuse(pair);
    assert_int_equal(pair->client.state, WEIR_ETLS);
    assert_int_equal(pair->server.state, WEIR_ETLS);
    assert_string_not_equal(pair->client.vendor->failure(pair->client.handshake), "");
}

static void test_a_good_server(struct tls_pair *pair)
{
    each_version(pair, good_try);
    pair->client.options.server_name = "A.Example";
    each_version(pair, good_try);
}

static void test_a_server_by_address(struct tls_pair *pair)
{
    pair->client.options.server_name = "127.0.0.1";
    each_version(pair, good_try);
    assert_string_equal(pair->server.result.server_name, ""); /* never in SNI */
    pair->client.options.server_name = "::1";
    each_version(pair, good_try);
    pair->client.options.server_name = "127.0.0.2";
    each_version(pair, refused_try);
}

static void test_a_wrong_name(struct tls_pair *pair)
{
    pair->client.options.server_name = "b.example";
    each_version(pair, refused_try);
    pair->client.options.server_name = "x.a.example";
    each_version(pair, refused_try);
}

static void test_a_wildcard(struct tls_pair *pair)
{
    pair->server.config.certificates = tls_certificate(TLS_B);
    pair->client.config.trust_file = file_of(TLS_B);
    pair->client.options.server_name = "x.wild.example";
    each_version(pair, good_try);
    pair->client.options.server_name = "x.y.wild.example";
    each_version(pair, refused_try);
}

static void test_an_untrusted_server(struct tls_pair *pair)
{
    pair->client.config.trust_file = file_of(TLS_OTHER);
    each_version(pair, refused_try);
    pair->client.config.trust_file = NULL; /* the system knows nothing of it either */
    each_version(pair, refused_try);
}

static void test_an_expired_server(struct tls_pair *pair)
{
    pair->server.config.certificates = tls_certificate(TLS_EXPIRED);
    pair->client.config.trust_file = file_of(TLS_EXPIRED);
    each_version(pair, refused_try);
}

static void unverified_try(struct tls_pair *pair)
{
    tls_pair_connect(pair);
    assert_false(pair->client.result.peer_certificate);
}

static void test_anybody_insecure(struct tls_pair *pair)
{
    pair->client.config.peer = WEIR__TLS_PEER_UNVERIFIED_INSECURE;
    pair->client.config.trust_file = NULL;
    pair->client.options.server_name = "b.example";
    each_version(pair, unverified_try);
    pair->server.config.certificates = tls_certificate(TLS_EXPIRED);
    pair->client.options.server_name = NULL;
    each_version(pair, unverified_try);
}

static void test_a_chain(struct tls_pair *pair)
{
    tls_require(TLS_CHAIN, "a_chain");
    pair->server.config.certificates = tls_certificate(TLS_CHAIN);
    pair->client.config.trust_file = file_of(TLS_ROOT);
    each_version(pair, good_try);
    pair->client.config.trust_file = file_of(TLS_A);
    each_version(pair, refused_try);
}

/* ---- which certificate is shown ---- */

/* The client trusts one alone, so that being trusted tells which it was. */
static void shown_try(struct tls_pair *pair, enum tls_identity identity, const char *name)
{
    pair->client.config.trust_file = file_of(identity);
    pair->client.options.server_name = name;
    each_version(pair, good_try);
}

static void test_sni_chooses(struct tls_pair *pair)
{
    const struct weir__tls_certificate both[] = {*tls_certificate(TLS_A), *tls_certificate(TLS_B)};

    pair->server.config.certificates = both;
    pair->server.config.certificate_count = 2;
    shown_try(pair, TLS_A, "a.example");
    shown_try(pair, TLS_B, "b.example");
    shown_try(pair, TLS_B, "B.EXAMPLE");
    shown_try(pair, TLS_B, "any.wild.example");
    assert_string_equal(pair->server.result.server_name, "any.wild.example");
    shown_try(pair, TLS_A, NULL);
    shown_try(pair, TLS_A, "127.0.0.1");
}

static void unknown_name_try(struct tls_pair *pair)
{
    /* The chain is that of the first: only the name is wrong. */
    tls_pair_connect(pair);
    assert_string_equal(pair->server.result.server_name, "unknown.example");
}

static void test_sni_falls_back(struct tls_pair *pair)
{
    const struct weir__tls_certificate both[] = {*tls_certificate(TLS_A), *tls_certificate(TLS_B)};

    pair->server.config.certificates = both;
    pair->server.config.certificate_count = 2;
    pair->client.config.peer = WEIR__TLS_PEER_UNVERIFIED_INSECURE;
    pair->client.options.server_name = "unknown.example";
    each_version(pair, unknown_name_try);
}

/* Two types of keys for one name: the client can do with both, and gets one of them. */
static void test_twins(struct tls_pair *pair)
{
    tls_require(TLS_RSA, "twins");
    const struct weir__tls_certificate both[] = {*tls_certificate(TLS_RSA), *tls_certificate(TLS_B),
                                                 *tls_certificate(TLS_A)};

    pair->server.config.certificates = both;
    pair->server.config.certificate_count = 3;
    pair->client.config.peer = WEIR__TLS_PEER_UNVERIFIED_INSECURE;
    each_version(pair, unverified_try);
    pair->client.options.server_name = "b.example";
    pair->client.config.peer = WEIR__TLS_PEER_REQUIRED;
    shown_try(pair, TLS_B, "b.example");
}

static void resumed_try(struct tls_pair *pair)
{
    pair->client.options.resume = NULL;
    tls_pair_connect(pair);
    size_t length = tls_pair_save(pair);
    tls_pair_close(pair);
    tls_pair_connect(pair);
    assert_int_equal(pair->client.result.resumed, length > 0);
    assert_true(length > 0 || (pair->client.vendor->lacks & WEIR__TLS_LACKS_OLD_RESUMPTION));
    assert_string_equal(pair->server.result.server_name, "b.example");
}

static void test_sni_and_resumption(struct tls_pair *pair)
{
    const struct weir__tls_certificate both[] = {*tls_certificate(TLS_A), *tls_certificate(TLS_B)};

    pair->server.config.certificates = both;
    pair->server.config.certificate_count = 2;
    pair->client.config.trust_file = file_of(TLS_B);
    pair->client.options.server_name = "b.example";
    each_version(pair, resumed_try);
}

/* ---- a client's certificate ---- */

static void client_shows(struct tls_pair *pair, enum weir__tls_peer_certificate peer)
{
    pair->server.config.peer = peer;
    pair->server.config.trust_file = file_of(TLS_CLIENT);
    pair->client.config.certificates = tls_certificate(TLS_CLIENT);
    pair->client.config.certificate_count = 1;
}

static void client_known_try(struct tls_pair *pair)
{
    tls_pair_connect(pair);
    assert_true(pair->server.result.peer_certificate);
    tls_pair_exchange(pair);
}

static void client_unknown_try(struct tls_pair *pair)
{
    tls_pair_connect(pair);
    assert_false(pair->server.result.peer_certificate);
    tls_pair_exchange(pair);
}

static void client_refused_try(struct tls_pair *pair)
{
    tls_pair_refuse(pair);
    assert_int_equal(pair->server.state, WEIR_ETLS);
}

static void test_a_client_certificate(struct tls_pair *pair)
{
    client_shows(pair, WEIR__TLS_PEER_REQUIRED);
    each_version(pair, client_known_try);
    client_shows(pair, WEIR__TLS_PEER_OPTIONAL);
    each_version(pair, client_known_try);
    client_shows(pair, WEIR__TLS_PEER_UNASKED);
    each_version(pair, client_unknown_try);
}

static void test_no_client_certificate(struct tls_pair *pair)
{
    client_shows(pair, WEIR__TLS_PEER_REQUIRED);
    pair->client.config.certificate_count = 0;
    each_version(pair, client_refused_try);
    pair->server.config.peer = WEIR__TLS_PEER_OPTIONAL;
    each_version(pair, client_unknown_try);
}

static void test_an_untrusted_client_certificate(struct tls_pair *pair)
{
    client_shows(pair, WEIR__TLS_PEER_REQUIRED);
    pair->client.config.certificates = tls_certificate(TLS_OTHER);
    each_version(pair, client_refused_try);
    /* A client may find that none of its certificates will do, and show none. */
    pair->server.config.peer = WEIR__TLS_PEER_OPTIONAL;
    for (unsigned v = 0; v < LENGTH(versions); v++) {
        if (!tls_pair_has_version(pair, versions[v]))
            continue;
        tls_pair_versions(pair, versions[v], versions[v]);
        tls_pair_open(pair);
        tls_pair_run(pair);
        if (pair->server.state == WEIR__TLS_DONE) {
            assert_int_equal(
                pair->server.vendor->result(pair->server.handshake, &pair->server.result), 0);
            assert_false(pair->server.result.peer_certificate);
        } else {
            assert_int_equal(pair->server.state, WEIR_ETLS);
        }
        tls_pair_close(pair);
    }
}

static void client_resumes_try(struct tls_pair *pair)
{
    client_shows(pair, WEIR__TLS_PEER_REQUIRED);
    pair->client.options.resume = NULL;
    tls_pair_connect(pair);
    size_t length = tls_pair_save(pair);
    bool forgets = pair->server.vendor->lacks & WEIR__TLS_LACKS_CLIENTS_IN_TICKETS;
    assert_true(length > 0 || forgets ||
                (pair->client.vendor->lacks & WEIR__TLS_LACKS_OLD_RESUMPTION));
    tls_pair_close(pair);
    /* Whether it resumes or not: the client is known. */
    tls_pair_connect(pair);
    assert_int_equal(pair->client.result.resumed, length > 0 && !forgets);
    assert_true(pair->server.result.peer_certificate);
    tls_pair_exchange(pair);
    tls_pair_close(pair);
    /* A ticket of a server that asks for nothing opens no other. */
    pair->client.options.resume = NULL;
    pair->server.config.peer = WEIR__TLS_PEER_UNASKED;
    tls_pair_connect(pair);
    tls_pair_save(pair);
    tls_pair_close(pair);
    client_shows(pair, WEIR__TLS_PEER_REQUIRED);
    pair->client.config.certificate_count = 0;
    tls_pair_refuse(pair);
    assert_int_equal(pair->server.state, WEIR_ETLS);
    pair->client.options.resume = NULL;
}

static void test_client_certificates_and_resumption(struct tls_pair *pair)
{
    each_version(pair, client_resumes_try);
}

/* ---- files that do not serve ---- */

static void complaint_try(struct tls_end *end, int expected, const char *file)
{
    struct weir__tls_complaint complaint;

    memset(&complaint, 'x', sizeof(complaint));
    assert_int_equal(end->vendor->context_new(&end->context, &end->config, &complaint), expected);
    assert_null(end->context);
    assert_non_null(memchr(complaint.text, '\0', sizeof(complaint.text)));
    assert_null(strchr(complaint.text, '\n'));
    if (!strstr(complaint.text, file))
        fail_msg("\"%s\" does not name %s", complaint.text, file);
}

static void files_try(struct tls_pair *pair, const char *certificate, const char *key, int expected,
                      const char *named)
{
    const struct weir__tls_certificate files = {certificate, key};

    pair->server.config.certificates = &files;
    complaint_try(&pair->server, expected, named);
}

static void test_files_that_do_not_serve(struct tls_pair *pair)
{
    const struct weir__tls_certificate *good = tls_certificate(TLS_A);
    const char *garbage = tls_file("garbage.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n");

    files_try(pair, "/nowhere/a.pem", good->key_file, WEIR_EACCESS, "/nowhere/a.pem");
    files_try(pair, good->certificate_file, "/nowhere/a.key", WEIR_EACCESS, "/nowhere/a.key");
    files_try(pair, garbage, good->key_file, WEIR_EINVAL, garbage);
    files_try(pair, good->certificate_file, garbage, WEIR_EINVAL, garbage);
    files_try(pair, good->key_file, good->key_file, WEIR_EINVAL, good->key_file);
    files_try(pair, good->certificate_file, tls_certificate(TLS_B)->key_file, WEIR_EINVAL,
              tls_certificate(TLS_B)->key_file);
    pair->client.config.trust_file = "/nowhere/trust.pem";
    complaint_try(&pair->client, WEIR_EACCESS, "/nowhere/trust.pem");
    pair->client.config.trust_file = garbage;
    complaint_try(&pair->client, WEIR_EINVAL, garbage);
}

static void test_configurations_that_make_no_sense(struct tls_pair *pair)
{
    static const char *const empty[] = {""};
    static const char *const big[] = {"abcdefghijklmnopqrstuvwxyz0123456"};

    pair->client.config.alpn = empty;
    pair->client.config.alpn_count = 1;
    complaint_try(&pair->client, WEIR_EINVAL, "ALPN");
    pair->client.config.alpn = big;
    complaint_try(&pair->client, WEIR_EINVAL, "ALPN");
    pair->client.config.alpn_count = 0;
    pair->client.config.version_min = 0x0301;
    complaint_try(&pair->client, WEIR_EINVAL, "version");
    pair->server.config.certificate_count = 0;
    complaint_try(&pair->server, WEIR_EINVAL, "certificate");
}

static void test_tickets_are_a_servers(struct tls_pair *pair)
{
    tls_pair_open(pair);
    assert_int_equal(pair->client.vendor->context_set_tickets(pair->client.context, &pair->tickets),
                     WEIR_ENOTSUP);
}

/* ---- self_signed ---- */

static void test_self_signed(struct tls_pair *pair)
{
    static const char *const names[] = {"made.example", "192.0.2.1", "2001:db8::1"};
    char certificate[WEIR__TLS_SELF_SIGNED_MAX], key[WEIR__TLS_SELF_SIGNED_MAX];
    char certificate_path[128], key_path[128];

    if (!pair->server.vendor->self_signed) {
        printf("SKIP: self_signed: %s makes no certificates\n", pair->server.vendor->name);
        skip();
    }
    assert_int_equal(pair->server.vendor->self_signed(names, 3, 2, certificate, sizeof(certificate),
                                                      key, sizeof(key)),
                     0);
    strcpy(certificate_path, tls_file("made.pem", certificate));
    strcpy(key_path, tls_file("made.key", key));
    const struct weir__tls_certificate files = {certificate_path, key_path};
    pair->server.config.certificates = &files;
    pair->client.config.trust_file = certificate_path;
    for (unsigned i = 0; i < LENGTH(names); i++) {
        pair->client.options.server_name = names[i];
        each_version(pair, good_try);
    }
    assert_int_equal(
        pair->server.vendor->self_signed(names, 3, 2, certificate, 20, key, sizeof(key)),
        WEIR_ENOBUFS);
    assert_int_equal(
        pair->server.vendor->self_signed(names, 3, 2, certificate, sizeof(certificate), key, 20),
        WEIR_ENOBUFS);
}

int main(void)
{
    static const struct tls_test tests[] = {
        {"a_good_server", test_a_good_server, false},
        {"a_server_by_address", test_a_server_by_address, false},
        {"a_wrong_name", test_a_wrong_name, false},
        {"a_wildcard", test_a_wildcard, false},
        {"an_untrusted_server", test_an_untrusted_server, false},
        {"an_expired_server", test_an_expired_server, false},
        {"anybody_insecure", test_anybody_insecure, false},
        {"a_chain", test_a_chain, false},
        {"sni_chooses", test_sni_chooses, false},
        {"sni_falls_back", test_sni_falls_back, false},
        {"twins", test_twins, false},
        {"sni_and_resumption", test_sni_and_resumption, false},
        {"a_client_certificate", test_a_client_certificate, false},
        {"no_client_certificate", test_no_client_certificate, false},
        {"an_untrusted_client_certificate", test_an_untrusted_client_certificate, false},
        {"client_certificates_and_resumption", test_client_certificates_and_resumption, false},
        {"files_that_do_not_serve", test_files_that_do_not_serve, true},
        {"configurations_that_make_no_sense", test_configurations_that_make_no_sense, true},
        {"tickets_are_a_servers", test_tickets_are_a_servers, true},
        {"self_signed", test_self_signed, false},
    };
    return tls_suite_run("tls_vendor_certificate", tests, LENGTH(tests));
}
