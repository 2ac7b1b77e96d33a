/* SPDX-License-Identifier: Apache-2.0 */
/* weir/bio.h where OpenSSL asks the kernel for TLS, and gets it or not. */

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "support/bio_fixture.h"

#define FILE_BYTES 300000

static void need_ktls(const char *name)
{
    if (kernel_has_tls())
        return;
    printf("SKIP: %s: this kernel has no TLS\n", name);
    skip();
}

/* OpenSSL 3.0 keeps AES-CCM with TLS 1.3 to itself. */
static const struct setting ktls_settings[] = {
    {TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256", true, 0, NULL},
    {TLS1_3_VERSION, "TLS_AES_256_GCM_SHA384", true, 0, NULL},
    {TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256", true, 0, NULL},
    {TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256", true, 0, NULL},
    {TLS1_2_VERSION, "ECDHE-ECDSA-AES256-GCM-SHA384", true, 0, NULL},
    {TLS1_2_VERSION, "ECDHE-ECDSA-CHACHA20-POLY1305", true, 0, NULL},
    {TLS1_2_VERSION, "ECDHE-ECDSA-AES128-CCM", true, 0, NULL},
};

#define KTLS_SETTINGS (sizeof(ktls_settings) / sizeof(ktls_settings[0]))

/* Asked for on any kernel: where it is not to be had, all goes on in user space. */
static void ktls_or_not_bytes_pass(void **state)
{
    bool has = kernel_has_tls();

    (void)state;
    for (size_t i = 0; i < KTLS_SETTINGS; i++) {
        struct session s;
        session_open(&s, &ktls_settings[i]);
        struct weir_bio_info info;
        weir_bio_get_info(s.bio, &info);
        assert_int_equal(BIO_get_ktls_send(s.bio), info.ktls_send);
        if (!has)
            assert_false(info.ktls_send || info.ktls_receive);
        session_pass(&s, s.server, s.client, MIB);
        session_pass(&s, s.client, s.server, MIB);
        session_pass(&s, s.server, s.client, 1);
        assert_int_equal(weir_bio_wire_bytes(s.bio), bytes_received(s.client_socket));
        /* An alert, which is no application data. */
        assert_int_equal(SSL_shutdown(s.server), 0);
        wait_readable(s.client_socket);
        assert_int_equal(SSL_read(s.client, s.received, 1), 0);
        assert_int_equal(SSL_get_error(s.client, 0), SSL_ERROR_ZERO_RETURN);
        session_close(&s);
    }
}

/* Which directions OpenSSL hands over: sending always, receiving before 3.2 with TLS 1.2 alone. */
static void ktls_is_on(void **state)
{
    (void)state;
    need_ktls("ktls_is_on");
    for (size_t i = 0; i < KTLS_SETTINGS; i++) {
        struct session s;
        session_open(&s, &ktls_settings[i]);
        assert_int_equal(BIO_get_ktls_send(SSL_get_wbio(s.server)), 1);
        if (ktls_settings[i].version == TLS1_2_VERSION)
            assert_int_equal(BIO_get_ktls_recv(SSL_get_rbio(s.server)), 1);
        session_close(&s);
    }
}

/* With a header that libssl believes, also where the kernel could join records to more than one may have. */
static void ktls_reads_records(void **state)
{
    static const uint8_t header[] = {SSL3_RT_APPLICATION_DATA, 3, 3, 0x40, 0x00};
    const struct setting setting = {.version = TLS1_2_VERSION, .ktls = true};
    struct session s;

    (void)state;
    need_ktls("ktls_reads_records");
    session_open(&s, &setting);
    assert_int_equal(BIO_get_ktls_recv(s.bio), 1);
    assert_int_equal(SSL_write(s.client, pattern, 3 * 16384), 3 * 16384);
    wait_ms(50);
    assert_int_equal(BIO_read(s.bio, s.received, MIB), sizeof(header) + 16384);
    assert_memory_equal(s.received, header, sizeof(header));
    assert_memory_equal(s.received + sizeof(header), pattern, 16384);
    assert_int_equal(BIO_read(s.bio, s.received, sizeof(header)),
                     -1); /* no room for a byte of it */
    assert_false(BIO_should_retry(s.bio));
    session_close(&s);
}

static void ktls_small_buffers(void **state)
{
    struct setting setting = ktls_settings[0];

    (void)state;
    need_ktls("ktls_small_buffers");
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        struct session s;
        setting.version = version;
        setting.cipher = NULL;
        setting.buffer_bytes = 8192;
        session_open(&s, &setting);
        assert_int_equal(BIO_get_ktls_send(s.bio), 1);
        session_pass(&s, s.server, s.client, MIB);
        session_pass(&s, s.client, s.server, MIB);
        assert_int_equal(weir_bio_wire_bytes(s.bio), bytes_received(s.client_socket));
        session_close(&s);
    }
}

/* By the socket option, for the last record; the offset is the kernel's own count of records. */
static void ktls_stamps_the_end_of_a_write(void **state)
{
    static const size_t lengths[] = {1, 16384, 20000, 131072 + 5000, MIB};

    (void)state;
    need_ktls("ktls_stamps_the_end_of_a_write");
    for (size_t i = 0; i < KTLS_SETTINGS; i++) {
        struct weir_bio_stamp stamps[STAMPS_MAX];
        struct session s;
        session_open(&s, &ktls_settings[i]);
        assert_int_equal(BIO_get_ktls_send(s.bio), 1);
        session_pass(&s, s.server, s.client, 100000);
        wait_ms(10);
        assert_int_equal(weir_bio_read_stamps(s.bio, stamps, STAMPS_MAX), 0);
        for (size_t l = 0; l < sizeof(lengths) / sizeof(lengths[0]); l++) {
            uint64_t begin = weir_bio_wire_bytes(s.bio), began_ns = now_ns();
            uint64_t end = session_pass_stamped(&s, lengths[l], lengths[l]);
            assert_int_equal(end, bytes_received(s.client_socket));
            unsigned count = wait_for_stamp(s.bio, WEIR_STAGE_DELIVERED, end, stamps);
            for (unsigned n = 0; n < count; n++) {
                assert_in_range(stamps[n].at_ns, began_ns, now_ns());
                assert_in_range(stamps[n].offset, begin + 1, end);
            }
        }
        session_close(&s);
    }
}

static void ktls_sends_files(void **state)
{
    struct weir_bio_stamp stamps[STAMPS_MAX];
    struct session s;
    size_t sent = 0, got = 0;
    FILE *file = tmpfile();

    (void)state;
    need_ktls("ktls_sends_files");
    assert_int_equal(fwrite(pattern, 1, FILE_BYTES, file), FILE_BYTES);
    assert_int_equal(fflush(file), 0);
    session_open(&s, &ktls_settings[0]);
    assert_int_equal(weir_bio_stamp_start(s.bio, 0), 0);
    while (got < FILE_BYTES) {
        if (sent < FILE_BYTES) {
            ossl_ssize_t n =
                SSL_sendfile(s.server, fileno(file), (off_t)sent, FILE_BYTES - sent, 0);
            if (n > 0) {
                weir_bio_count_file(s.bio, (uint64_t)n);
                sent += (size_t)n;
            }
        }
        int n = SSL_read(s.client, s.received + got, (int)(FILE_BYTES - got));
        if (n > 0)
            got += (size_t)n;
    }
    uint64_t end = weir_bio_stamp_stop(s.bio);
    assert_memory_equal(s.received, pattern, FILE_BYTES);
    assert_int_equal(end, bytes_received(s.client_socket));
    wait_for_stamp(s.bio, WEIR_STAGE_DELIVERED, end, stamps);
    session_close(&s);
    fclose(file);
}

/* The owner's control messages would be EINVAL there, MSG_EOR and MSG_ZEROCOPY EOPNOTSUPP. */
static void ktls_leaves_out_what_the_kernel_refuses(void **state)
{
    struct owner owner = {.stamp = true, .flags = MSG_EOR | MSG_ZEROCOPY};
    struct weir_bio_options options = zerocopy_options(MIB);
    struct setting setting = ktls_settings[0];
    struct session s;

    (void)state;
    need_ktls("ktls_leaves_out_what_the_kernel_refuses");
    options.on_send = owner_on_send;
    options.context = &owner;
    setting.options = &options;
    session_open(&s, &setting);
    assert_int_equal(BIO_get_ktls_send(s.bio), 1);
    session_pass(&s, s.server, s.client, MIB);
    assert_int_equal(owner.record_type, SSL3_RT_APPLICATION_DATA);
    assert_int_equal(weir_bio_wire_bytes(s.bio), bytes_received(s.client_socket));
    assert_int_equal(SSL_shutdown(s.server), 0);
    assert_int_equal(owner.record_type, SSL3_RT_ALERT);
    session_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ktls_or_not_bytes_pass),
        cmocka_unit_test(ktls_is_on),
        cmocka_unit_test(ktls_reads_records),
        cmocka_unit_test(ktls_small_buffers),
        cmocka_unit_test(ktls_stamps_the_end_of_a_write),
        cmocka_unit_test(ktls_sends_files),
        cmocka_unit_test(ktls_leaves_out_what_the_kernel_refuses),
    };

    bio_fixture_open();
    int failures = cmocka_run_group_tests(tests, NULL, NULL);
    bio_fixture_close();
    return failures;
}
