/* SPDX-License-Identifier: Apache-2.0 */
#include "server/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <weir/error.h>

#define WORDS_MAX 48

static struct weir__options options;
static char error[WEIR__OPTIONS_ERROR_MAX];

/* Parses the words after "weir"; the list ends with NULL. */
static int parse_words(const char *first, ...)
{
    char *argv[WORDS_MAX] = {"weir"};
    int argc = 1;
    va_list words;
    va_start(words, first);
    for (const char *word = first; word; word = va_arg(words, const char *)) {
        assert_true(argc < WORDS_MAX - 1);
        argv[argc++] = (char *)word;
    }
    va_end(words);
    memset(&options, 0xff, sizeof(options));
    error[0] = '\0';
    return weir__options_parse(&options, argc, argv, error);
}
#define parse(...) parse_words(__VA_ARGS__, NULL)

#define assert_refused(text, ...)                                                                  \
    do {                                                                                           \
        assert_int_equal(parse(__VA_ARGS__), WEIR_EINVAL);                                         \
        assert_string_equal(error, text);                                                          \
    } while (0)

static void assert_listens(unsigned index, const char *wanted)
{
    char text[WEIR_ADDRESS_TEXT_MAX];
    weir_address_format(&options.listen[index].address, text);
    assert_string_equal(text, wanted);
}

static void serve_has_defaults(void **state)
{
    (void)state;
    assert_int_equal(parse("serve"), 0);
    assert_int_equal(options.command, WEIR__COMMAND_SERVE);
    assert_string_equal(options.directory, ".");
    assert_int_equal(options.listen_count, 1);
    assert_listens(0, "127.0.0.1:8080");
    assert_true(options.delivery);
    assert_int_equal(options.engine, WEIR_ENGINE_AUTO);
    assert_int_equal(options.zerocopy, WEIR_ZEROCOPY_AUTO);
    assert_int_equal(options.threads, 0);
    assert_string_equal(options.access_log, "-");
    assert_int_equal(options.log_format, WEIR__LOG_JSON);
    assert_int_equal(options.connections_max, 10000);
    assert_int_equal(options.header_timeout_ms, 10000);
    assert_int_equal(options.body_timeout_ms, 30000);
    assert_int_equal(options.idle_timeout_ms, 60000);
    assert_int_equal(options.drain_timeout_ms, 30000);
    assert_int_equal(options.rate_min_bytes_per_second, 500);
    assert_false(options.listen[0].tls);
    assert_int_equal(options.listen_tls_count, 0);
    assert_null(options.tls_vendor);
    assert_int_equal(options.tls_cipher, WEIR_TLS_CIPHER_AUTO);
    assert_int_equal(options.ktls, WEIR__KTLS_AUTO);
    assert_int_equal(options.certificate_count, 0);
    assert_int_equal(options.tls_min, WEIR_TLS_1_2);
    assert_int_equal(options.tls_max, WEIR_TLS_1_3);
    assert_null(options.ticket_keys);
    assert_null(options.client_ca);
    assert_int_equal(options.client_certificate, WEIR_TLS_PEER_OPTIONAL);
    assert_null(options.tls_key_log_insecure);
    assert_int_equal(options.tls_records_max, 16711680);
    assert_false(options.admin);
}

static void serve_takes_every_option(void **state)
{
    (void)state;
    assert_int_equal(parse("serve", "/srv", "--listen", "[::1]:8443", "--listen=0.0.0.0:80",
                           "--delivery", "off", "--engine", "poll", "--threads=3", "--access-log",
                           "/var/log/weir", "--log-format", "combined", "--max-connections=7",
                           "--header-timeout", "1.5", "--body-timeout=2", "--idle-timeout", "0.001",
                           "--min-rate", "0", "--drain-timeout=86400", "--zerocopy=on", "--admin",
                           "127.0.0.1:9100"),
                     0);
    assert_string_equal(options.directory, "/srv");
    assert_int_equal(options.listen_count, 2);
    assert_listens(0, "[::1]:8443");
    assert_listens(1, "0.0.0.0:80");
    assert_false(options.delivery);
    assert_int_equal(options.engine, WEIR_ENGINE_POLL);
    assert_int_equal(options.threads, 3);
    assert_string_equal(options.access_log, "/var/log/weir");
    assert_int_equal(options.log_format, WEIR__LOG_COMBINED);
    assert_int_equal(options.connections_max, 7);
    assert_int_equal(options.header_timeout_ms, 1500);
    assert_int_equal(options.body_timeout_ms, 2000);
    assert_int_equal(options.idle_timeout_ms, 1);
    assert_int_equal(options.rate_min_bytes_per_second, 0);
    assert_int_equal(options.drain_timeout_ms, 86400000);
    assert_int_equal(options.zerocopy, WEIR_ZEROCOPY_ON);
    assert_true(options.admin);
    char text[WEIR_ADDRESS_TEXT_MAX];
    weir_address_format(&options.admin_address, text);
    assert_string_equal(text, "127.0.0.1:9100");
}

static void serve_takes_every_option_of_tls(void **state)
{
    (void)state;
    assert_int_equal(parse("serve", "--listen-tls", "127.0.0.1:8443", "--cert=a.pem", "--key",
                           "a.key", "--cert", "b.pem", "--key=b.key", "--tls", "gnutls",
                           "--tls-cipher=library", "--ktls=tx", "--tls-min=1.2", "--tls-max", "1.2",
                           "--client-ca", "ca.pem", "--client-cert=required", "--ticket-keys",
                           "keys", "--tls-rekey=1", "--tls-key-log-insecure", "secrets"),
                     0);
    /* No plain address beside it, unless it is asked for. */
    assert_int_equal(options.listen_count, 1);
    assert_int_equal(options.listen_tls_count, 1);
    assert_listens(0, "127.0.0.1:8443");
    assert_true(options.listen[0].tls);
    assert_int_equal(options.certificate_count, 2);
    assert_string_equal(options.certificates[0].certificate_file, "a.pem");
    assert_string_equal(options.certificates[0].key_file, "a.key");
    assert_string_equal(options.certificates[1].certificate_file, "b.pem");
    assert_string_equal(options.certificates[1].key_file, "b.key");
    assert_string_equal(options.tls_vendor, "gnutls");
    assert_int_equal(options.tls_cipher, WEIR_TLS_CIPHER_LIBRARY);
    assert_int_equal(options.ktls, WEIR__KTLS_TX);
    assert_int_equal(options.tls_min, WEIR_TLS_1_2);
    assert_int_equal(options.tls_max, WEIR_TLS_1_2);
    assert_string_equal(options.client_ca, "ca.pem");
    assert_int_equal(options.client_certificate, WEIR_TLS_PEER_REQUIRED);
    assert_string_equal(options.ticket_keys, "keys");
    assert_int_equal(options.tls_records_max, 1);
    assert_string_equal(options.tls_key_log_insecure, "secrets");
}

static void plain_and_tls_addresses_keep_their_order(void **state)
{
    (void)state;
    assert_int_equal(
        parse("serve", "--listen-tls", ":443", "--listen", ":80", "--listen-tls", "[::1]:443"), 0);
    assert_int_equal(options.listen_count, 3);
    assert_int_equal(options.listen_tls_count, 2);
    assert_listens(0, "0.0.0.0:443");
    assert_true(options.listen[0].tls);
    assert_listens(1, "0.0.0.0:80");
    assert_false(options.listen[1].tls);
    assert_listens(2, "[::1]:443");
    assert_true(options.listen[2].tls);
}

static void options_of_tls_must_make_sense_together(void **state)
{
    (void)state;
    assert_refused("option '--cert' is for '--listen-tls', which is missing", "serve", "--cert",
                   "a", "--key", "a");
    assert_refused("option '--key' is for '--listen-tls', which is missing", "serve", "--key", "a");
    assert_refused("option '--client-ca' is for '--listen-tls', which is missing", "serve",
                   "--client-ca", "a");
    assert_refused("option '--ticket-keys' is for '--listen-tls', which is missing", "serve",
                   "--ticket-keys", "a");
    assert_refused("option '--tls-key-log-insecure' is for '--listen-tls', which is missing",
                   "serve", "--tls-key-log-insecure", "a");
    assert_refused("each '--cert' takes a '--key': there are 2 and 1", "serve", "--listen-tls",
                   ":443", "--cert", "a", "--key", "a", "--cert", "b");
    assert_refused("'--tls-min' is newer than '--tls-max'", "serve", "--listen-tls", ":443",
                   "--tls-min", "1.3", "--tls-max", "1.2");
    assert_refused("option '--client-cert' is for '--client-ca', which is missing", "serve",
                   "--listen-tls", ":443", "--client-cert", "required");
    assert_refused("'1.1' is no value for '--tls-min': it takes 1.2 or 1.3", "serve", "--tls-min",
                   "1.1");
    assert_refused("'nss' is no value for '--tls': it takes openssl, gnutls, wolfssl or mbedtls",
                   "serve", "--tls", "nss");
    assert_refused("'openssl' is no value for '--tls-cipher': it takes auto or library", "serve",
                   "--tls-cipher", "openssl");
    assert_refused("'rx' is no value for '--ktls': it takes auto, off, on or tx", "serve", "--ktls",
                   "rx");
    assert_refused("'' is no value for '--cert': it takes a file's name, at most 16 times", "serve",
                   "--cert=");
    assert_refused(
        "'16711681' is no value for '--tls-rekey': it takes a number of records from 1 to 16711680",
        "serve", "--tls-rekey", "16711681");
    assert_int_equal(parse("serve", "--tls-rekey", "0"), WEIR_EINVAL);
}

static void certificates_are_bounded(void **state)
{
    (void)state;
    char *argv[8 + 4 * WEIR__OPTIONS_CERTIFICATES_MAX] = {"weir", "serve", "--listen-tls=:443"};
    int argc = 3;
    for (unsigned i = 0; i < WEIR__OPTIONS_CERTIFICATES_MAX; i++) {
        argv[argc++] = "--cert=c";
        argv[argc++] = "--key=k";
    }
    assert_int_equal(weir__options_parse(&options, argc, argv, error), 0);
    assert_int_equal(options.certificate_count, 16);
    argv[argc] = "--cert=c";
    assert_int_equal(weir__options_parse(&options, argc + 1, argv, error), WEIR_EINVAL);
    argv[argc] = "--key=k";
    assert_int_equal(weir__options_parse(&options, argc + 1, argv, error), WEIR_EINVAL);
}

static void each_engine_has_its_name(void **state)
{
    (void)state;
    assert_int_equal(parse("serve", "--engine=auto"), 0);
    assert_int_equal(options.engine, WEIR_ENGINE_AUTO);
    assert_int_equal(parse("serve", "--engine=io_uring"), 0);
    assert_int_equal(options.engine, WEIR_ENGINE_IO_URING);
    assert_int_equal(parse("serve", "--engine=epoll"), 0);
    assert_int_equal(options.engine, WEIR_ENGINE_EPOLL);
    assert_refused("'kqueue' is no value for '--engine': it takes auto, io_uring, epoll or poll",
                   "serve", "--engine", "kqueue");
}

static void words_may_come_in_any_order(void **state)
{
    (void)state;
    assert_int_equal(parse("serve", "--threads", "auto", "site", "--access-log=-"), 0);
    assert_string_equal(options.directory, "site");
    assert_string_equal(options.access_log, "-");
    assert_int_equal(parse("serve", "--threads", "2", "--", "--odd"), 0);
    assert_string_equal(options.directory, "--odd");
    assert_int_equal(options.threads, 2);
    /* The last one counts. */
    assert_int_equal(parse("serve", "--delivery=off", "--delivery=on"), 0);
    assert_true(options.delivery);
    /* An equals sign belongs to the value. */
    assert_int_equal(parse("serve", "--access-log=a=b"), 0);
    assert_string_equal(options.access_log, "a=b");
}

static void help_and_version_are_commands(void **state)
{
    (void)state;
    assert_int_equal(parse("--help"), 0);
    assert_int_equal(options.command, WEIR__COMMAND_HELP);
    assert_non_null(strstr(options.help, "weir serve [DIR]"));
    assert_int_equal(parse("help"), 0);
    assert_non_null(strstr(options.help, "weir doctor"));
    assert_int_equal(parse("help", "serve"), 0);
    assert_non_null(strstr(options.help, "--drain-timeout SECONDS"));
    assert_int_equal(parse("serve", "dir", "--help", "--nonsense"), 0);
    assert_int_equal(options.command, WEIR__COMMAND_HELP);
    assert_non_null(strstr(options.help, "--drain-timeout SECONDS"));
    assert_int_equal(parse("doctor", "-h"), 0);
    assert_non_null(strstr(options.help, "--json"));
    assert_int_equal(parse("--version"), 0);
    assert_int_equal(options.command, WEIR__COMMAND_VERSION);
}

static void doctor_prints_a_table_or_json(void **state)
{
    (void)state;
    assert_int_equal(parse("doctor"), 0);
    assert_int_equal(options.command, WEIR__COMMAND_DOCTOR);
    assert_false(options.json);
    assert_int_equal(parse("doctor", "--json"), 0);
    assert_true(options.json);
    assert_false(options.explain);
    assert_int_equal(parse("doctor", "--explain", "--json"), 0);
    assert_true(options.explain);
    assert_true(options.json);
    assert_refused("option '--json' takes no value", "doctor", "--json=yes");
    assert_refused("unexpected word 'now'", "doctor", "now");
    assert_refused("unknown option '--threads'", "doctor", "--threads", "2");
}

static void bad_usage_names_the_word(void **state)
{
    (void)state;
    char *none[] = {"weir", NULL};
    assert_int_equal(weir__options_parse(&options, 1, none, error), WEIR_EINVAL);
    assert_string_equal(error, "a command is missing; 'weir --help' lists them");
    assert_refused("unknown command 'dance'; 'weir --help' lists what there is", "dance");
    assert_refused("unknown option '--listen'; 'weir --help' lists what there is", "--listen");
    assert_refused("unknown option '--thread'", "serve", "--thread", "1");
    assert_refused("unknown option '--threadsx=1'", "serve", "--threadsx=1");
    assert_refused("unknown option '-t'", "serve", "-t");
    assert_refused("unknown option '--json'", "serve", "--json");
    assert_refused("unexpected word 'b'", "serve", "a", "b");
    assert_refused("unexpected word ''", "serve", "");
    assert_refused("unexpected word 'x'", "--version", "x");
    assert_refused("unexpected word 'fly'", "help", "fly");
    assert_refused("unexpected word 'x'", "help", "serve", "x");
    assert_refused("option '--threads' takes auto or a number from 1 to 256", "serve", "--threads");
    assert_refused("unknown command 'a?b'; 'weir --help' lists what there is", "a\nb");
}

/* They belong to what is not built yet, and must not be swallowed in silence. */
static void later_options_are_unknown(void **state)
{
    (void)state;
    static const char *const later[] = {"--cache", "--to", "--config"};
    for (size_t i = 0; i < sizeof(later) / sizeof(later[0]); i++) {
        assert_int_equal(parse("serve", later[i], "x"), WEIR_EINVAL);
        assert_non_null(strstr(error, later[i]));
    }
    assert_int_equal(parse("proxy"), WEIR_EINVAL);
    assert_int_equal(parse("run"), WEIR_EINVAL);
    assert_int_equal(parse("check"), WEIR_EINVAL);
}

static void numbers_are_strict(void **state)
{
    (void)state;
    static const char *const bad_counts[] = {
        "0", "-1", "+1", "1x", "", " 1", "0x10", "1e3", "99999999999999999999"};
    for (size_t i = 0; i < sizeof(bad_counts) / sizeof(bad_counts[0]); i++) {
        assert_int_equal(parse("serve", "--threads", bad_counts[i]), WEIR_EINVAL);
        assert_int_equal(parse("serve", "--max-connections", bad_counts[i]), WEIR_EINVAL);
    }
    assert_int_equal(parse("serve", "--threads=256"), 0);
    assert_int_equal(options.threads, 256);
    assert_refused("'257' is no value for '--threads': it takes auto or a number from 1 to 256",
                   "serve", "--threads=257");
    assert_int_equal(parse("serve", "--max-connections=10000000"), 0);
    assert_int_equal(parse("serve", "--max-connections=10000001"), WEIR_EINVAL);
    assert_int_equal(parse("serve", "--min-rate=1000000000000"), 0);
    assert_int_equal(parse("serve", "--min-rate=1000000000001"), WEIR_EINVAL);
}

static void seconds_have_up_to_three_decimals(void **state)
{
    (void)state;
    static const char *const bad[] = {"0",  "0.000", ".5",    "5.",      "1.2345", "1.2.3", "-1",
                                      "1s", "",      "86401", "86400.1", "999999", "1.-2",  "."};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(parse("serve", "--idle-timeout", bad[i]), WEIR_EINVAL);
    assert_int_equal(parse("serve", "--idle-timeout", "0.05"), 0);
    assert_int_equal(options.idle_timeout_ms, 50);
    assert_int_equal(parse("serve", "--idle-timeout", "00012.250"), 0);
    assert_int_equal(options.idle_timeout_ms, 12250);
}

static void listen_is_bounded_and_checked(void **state)
{
    (void)state;
    char *argv[4 + 2 * WEIR__OPTIONS_LISTEN_MAX] = {"weir", "serve"};
    int argc = 2;
    for (unsigned i = 0; i < WEIR__OPTIONS_LISTEN_MAX; i++) {
        argv[argc++] = "--listen";
        argv[argc++] = "127.0.0.1:0";
    }
    assert_int_equal(weir__options_parse(&options, argc, argv, error), 0);
    assert_int_equal(options.listen_count, 16);
    argv[argc++] = "--listen=:81";
    assert_int_equal(weir__options_parse(&options, argc, argv, error), WEIR_EINVAL);
    assert_string_equal(error,
                        "':81' is no value for '--listen': it takes ADDR:PORT, at most 16 times");
    assert_refused("'localhost' is no value for '--listen': it takes ADDR:PORT, at most 16 times",
                   "serve", "--listen", "localhost");
}

static void long_words_are_cut(void **state)
{
    (void)state;
    static char word[5000];
    memset(word, 'a', sizeof(word) - 1);
    assert_int_equal(parse(word), WEIR_EINVAL);
    assert_true(strlen(error) < WEIR__OPTIONS_ERROR_MAX - 1);
    assert_int_equal(parse("serve", "--engine", word), WEIR_EINVAL);
    assert_non_null(strstr(error, "it takes auto, io_uring, epoll or poll"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(serve_has_defaults),
        cmocka_unit_test(serve_takes_every_option),
        cmocka_unit_test(serve_takes_every_option_of_tls),
        cmocka_unit_test(plain_and_tls_addresses_keep_their_order),
        cmocka_unit_test(options_of_tls_must_make_sense_together),
        cmocka_unit_test(certificates_are_bounded),
        cmocka_unit_test(each_engine_has_its_name),
        cmocka_unit_test(words_may_come_in_any_order),
        cmocka_unit_test(help_and_version_are_commands),
        cmocka_unit_test(doctor_prints_a_table_or_json),
        cmocka_unit_test(bad_usage_names_the_word),
        cmocka_unit_test(later_options_are_unknown),
        cmocka_unit_test(numbers_are_strict),
        cmocka_unit_test(seconds_have_up_to_three_decimals),
        cmocka_unit_test(listen_is_bounded_and_checked),
        cmocka_unit_test(long_words_are_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
