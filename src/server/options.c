/* SPDX-License-Identifier: Apache-2.0 */
#include "server/options.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <weir/error.h>

#define THREADS_MAX     256
#define CONNECTIONS_MAX 10000000u
#define TIMEOUT_S_MAX   86400u
#define RATE_MAX        1000000000000u
#define TLS_RECORDS_MAX ((1u << 24) - (1u << 16)) /* libweir's own bound */

#define HELP_GENERAL                                                                               \
    "Weir, a file server that knows when the last byte arrived.\n"                                 \
    "\n"                                                                                           \
    "usage: weir serve [DIR] [OPTION]...   serve a folder; default: the current one\n"             \
    "       weir doctor [OPTION]...        what this kernel and network can do, tried for real\n"  \
    "       weir help [COMMAND]\n"                                                                 \
    "       weir --help | --version\n"

#define HELP_SERVE                                                                                 \
    "usage: weir serve [DIR] [OPTION]...\n"                                                        \
    "\n"                                                                                           \
    "Serves the folder DIR (default: the current one) over HTTP/1.1.\n"                            \
    "\n"                                                                                           \
    "  --listen ADDR:PORT         where to listen; may be given up to 16 times\n"                  \
    "                             (default 127.0.0.1:8080, unless --listen-tls is given)\n"        \
    "  --listen-tls ADDR:PORT     the same with TLS (https)\n"                                     \
    "  --delivery on|off          find out when each response was delivered (default on)\n"        \
    "  --engine auto|io_uring|epoll|poll\n"                                                        \
    "                             how to talk to the kernel (default auto: the best that works)\n" \
    "  --zerocopy auto|off|on     send memory without copying it: auto where it pays, on always\n" \
    "                             for big sends, or no start (default auto)\n"                     \
    "  --threads N|auto           worker threads (default auto: one for each processor)\n"         \
    "  --access-log FILE|-        where the access log goes; - is standard output (default -),\n"  \
    "                             off is nowhere\n"                                                \
    "  --log-format json|combined (default json)\n"                                                \
    "  --max-connections N        open at a time, of all threads together (default 10000)\n"       \
    "  --header-timeout SECONDS   for a request's head to arrive (default 10)\n"                   \
    "  --body-timeout SECONDS     for the rest of a request's body (default 30)\n"                 \
    "  --idle-timeout SECONDS     between requests of one connection (default 60)\n"               \
    "  --min-rate BYTES_PER_SECOND\n"                                                              \
    "                             a client that takes less, on the average of the send\n"          \
    "                             timeout, is cut off (default 500)\n"                             \
    "  --send-timeout SECONDS     over which that is measured; who takes nothing for so long is\n" \
    "                             always cut off (default 30)\n"                                   \
    "  --drain-timeout SECONDS    for open connections to end after SIGQUIT (default 30)\n"        \
    "  --admin ADDR:PORT          metrics for operators, at http://ADDR:PORT/metrics: not for\n"   \
    "                             everybody (default: none)\n"

#define HELP_SERVE_TLS                                                                             \
    "\n"                                                                                           \
    "With --listen-tls:\n"                                                                         \
    "  --cert FILE --key FILE     a certificate with its chain, and its key, as PEM; up to 16\n"   \
    "                             pairs, chosen by the name that the client asks for. Without\n"   \
    "                             one, a certificate is made that no client trusts\n"              \
    "  --tls openssl|gnutls|wolfssl|mbedtls\n"                                                     \
    "                             the library (default: the first of them that there is)\n"        \
    "  --tls-cipher auto|library  who encrypts outside of the kernel: the fastest that there "     \
    "is,\n"                                                                                        \
    "                             or the library, for its certification (default auto)\n"          \
    "  --ktls auto|off|on|tx      encryption by the kernel: auto if it can, on or no start,\n"     \
    "                             tx only of what is sent (default auto)\n"                        \
    "  --tls-min 1.2|1.3          oldest version (default 1.2)\n"                                  \
    "  --tls-max 1.2|1.3          newest version (default 1.3)\n"                                  \
    "  --client-ca FILE           ask clients for certificates that these have signed\n"           \
    "  --client-cert optional|required\n"                                                          \
    "                             whether a client may do without (default optional)\n"            \
    "  --ticket-keys FILE         1 to 4 keys of 80 bytes for resumption, shared by servers\n"     \
    "  --tls-rekey RECORDS        new keys after so many records (default 16711680)\n"             \
    "  --tls-key-log-insecure FILE\n"                                                              \
    "                             append every connection's secrets: for debugging only\n"         \
    "\n"                                                                                           \
    "SECONDS may have up to three decimals. Signals: TERM and INT stop at once, QUIT drains,\n"    \
    "USR1 reopens the log, HUP reads certificates and keys again.\n"

#define HELP_DOCTOR                                                                                \
    "usage: weir doctor [--explain] [--json]\n"                                                    \
    "\n"                                                                                           \
    "Tries each thing that Weir can use of this kernel and network, and says which work.\n"        \
    "\n"                                                                                           \
    "  --explain                  say how weir sends here instead: which way for which "           \
    "transport,\n"                                                                                 \
    "                             size and route, why, and what the numbers are based on\n"        \
    "  --json                     print JSON in place of a table\n"

__attribute__((format(printf, 2, 3))) static int fail(char error[WEIR__OPTIONS_ERROR_MAX],
                                                      const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error, WEIR__OPTIONS_ERROR_MAX, format, arguments);
    va_end(arguments);
    /* A word may hold anything; the error stays one line. */
    for (char *at = error; *at; at++) {
        if ((unsigned char)*at < 0x20 || *at == 0x7f)
            *at = '?';
    }
    return WEIR_EINVAL;
}

/* ---- values: each returns false if the text is not one */

/* Decimal digits alone, at most `max`. */
static bool parse_number(const char *text, uint64_t max, uint64_t *number)
{
    uint64_t value = 0;

    if (!*text)
        return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return false;
        unsigned digit = (unsigned)(*text - '0');
        if (value > (max - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    *number = value;
    return true;
}

/* Seconds with up to three decimals; more than nothing, for a deadline of 0 would end everything.
 */
static bool parse_seconds(const char *text, uint32_t *ms)
{
    const char *point = strchr(text, '.');
    size_t whole = point ? (size_t)(point - text) : strlen(text);
    size_t decimals = point ? strlen(point + 1) : 0;
    char digits[16];
    uint64_t value;

    if (whole < 1 || whole > 5 || decimals > 3 || (point && decimals == 0))
        return false;
    /* "1.5" is read as the number 1500. */
    memset(digits, '0', sizeof(digits));
    memcpy(digits, text, whole);
    if (decimals > 0)
        memcpy(digits + whole, point + 1, decimals);
    digits[whole + 3] = '\0';
    if (!parse_number(digits, TIMEOUT_S_MAX * 1000u, &value) || value == 0)
        return false;
    *ms = (uint32_t)value;
    return true;
}

/* The index of `text` among `names`, which end with NULL. */
static bool parse_name(const char *text, const char *const *names, unsigned *index)
{
    for (unsigned i = 0; names[i]; i++) {
        if (strcmp(text, names[i]) == 0) {
            *index = i;
            return true;
        }
    }
    return false;
}

/* ---- options of serve */

static bool add_listen(struct weir__options *options, const char *value, bool tls)
{
    struct weir__listen *listen = &options->listen[options->listen_count];

    if (options->listen_count == WEIR__OPTIONS_LISTEN_MAX ||
        weir_address_parse(&listen->address, value) != 0)
        return false;
    listen->tls = tls;
    options->listen_count++;
    options->listen_tls_count += tls;
    return true;
}

static bool set_listen(struct weir__options *options, const char *value)
{
    return add_listen(options, value, false);
}

static bool set_listen_tls(struct weir__options *options, const char *value)
{
    return add_listen(options, value, true);
}

static bool set_delivery(struct weir__options *options, const char *value)
{
    static const char *const names[] = {"off", "on", NULL};
    unsigned index;
    if (!parse_name(value, names, &index))
        return false;
    options->delivery = index == 1;
    return true;
}

static bool set_engine(struct weir__options *options, const char *value)
{
    static const char *const names[] = {
        [WEIR_ENGINE_AUTO] = "auto",   [WEIR_ENGINE_IO_URING] = "io_uring",
        [WEIR_ENGINE_EPOLL] = "epoll", [WEIR_ENGINE_POLL] = "poll",
        [WEIR_ENGINE_POLL + 1] = NULL,
    };
    unsigned index;
    if (!parse_name(value, names, &index))
        return false;
    options->engine = (enum weir_engine_kind)index;
    return true;
}

static bool set_zerocopy(struct weir__options *options, const char *value)
{
    static const char *const names[] = {
        [WEIR_ZEROCOPY_AUTO] = "auto",
        [WEIR_ZEROCOPY_OFF] = "off",
        [WEIR_ZEROCOPY_ON] = "on",
        [WEIR_ZEROCOPY_ON + 1] = NULL,
    };
    unsigned index;
    if (!parse_name(value, names, &index))
        return false;
    options->zerocopy = (enum weir_zerocopy)index;
    return true;
}

static bool set_threads(struct weir__options *options, const char *value)
{
    uint64_t number = 0;
    if (strcmp(value, "auto") != 0 && (!parse_number(value, THREADS_MAX, &number) || number == 0))
        return false;
    options->threads = (unsigned)number;
    return true;
}

static bool set_access_log(struct weir__options *options, const char *value)
{
    options->access_log = strcmp(value, "off") == 0 ? NULL : value;
    return *value != '\0';
}

static bool set_log_format(struct weir__options *options, const char *value)
{
    static const char *const names[] = {[WEIR__LOG_JSON] = "json",
                                        [WEIR__LOG_COMBINED] = "combined",
                                        [WEIR__LOG_COMBINED + 1] = NULL};
    unsigned index;
    if (!parse_name(value, names, &index))
        return false;
    options->log_format = (enum weir__log_format)index;
    return true;
}

static bool set_connections_max(struct weir__options *options, const char *value)
{
    uint64_t number;
    if (!parse_number(value, CONNECTIONS_MAX, &number) || number == 0)
        return false;
    options->connections_max = (uint32_t)number;
    return true;
}

static bool set_header_timeout(struct weir__options *options, const char *value)
{
    return parse_seconds(value, &options->header_timeout_ms);
}

static bool set_body_timeout(struct weir__options *options, const char *value)
{
    return parse_seconds(value, &options->body_timeout_ms);
}

static bool set_idle_timeout(struct weir__options *options, const char *value)
{
    return parse_seconds(value, &options->idle_timeout_ms);
}

static bool set_send_timeout(struct weir__options *options, const char *value)
{
    return parse_seconds(value, &options->send_timeout_ms);
}

static bool set_drain_timeout(struct weir__options *options, const char *value)
{
    return parse_seconds(value, &options->drain_timeout_ms);
}

static bool set_rate_min(struct weir__options *options, const char *value)
{
    return parse_number(value, RATE_MAX, &options->rate_min_bytes_per_second);
}

static bool set_admin(struct weir__options *options, const char *value)
{
    options->admin = weir_address_parse(&options->admin_address, value) == 0;
    return options->admin;
}

/* ---- those with TLS */

static bool set_file(const char **file, const char *value)
{
    *file = value;
    return *value != '\0';
}

static bool set_certificate(struct weir__options *options, const char *value)
{
    return options->certificate_count < WEIR__OPTIONS_CERTIFICATES_MAX &&
           set_file(&options->certificates[options->certificate_count++].certificate_file, value);
}

static bool set_key(struct weir__options *options, const char *value)
{
    return options->key_count < WEIR__OPTIONS_CERTIFICATES_MAX &&
           set_file(&options->certificates[options->key_count++].key_file, value);
}

static bool set_tls_vendor(struct weir__options *options, const char *value)
{
    static const char *const names[] = {"openssl", "gnutls", "wolfssl", "mbedtls", NULL};
    unsigned index;
    if (!parse_name(value, names, &index))
        return false;
    options->tls_vendor = names[index];
    return true;
}

static bool set_tls_cipher(struct weir__options *options, const char *value)
{
    static const char *const names[] = {
        [WEIR_TLS_CIPHER_AUTO] = "auto",
        [WEIR_TLS_CIPHER_LIBRARY] = "library",
        [WEIR_TLS_CIPHER_LIBRARY + 1] = NULL,
    };
    unsigned index;
    if (!parse_name(value, names, &index))
        return false;
    options->tls_cipher = (enum weir_tls_cipher_source)index;
    return true;
}

static bool set_ktls(struct weir__options *options, const char *value)
{
    static const char *const names[] = {
        [WEIR__KTLS_AUTO] = "auto", [WEIR__KTLS_OFF] = "off",   [WEIR__KTLS_ON] = "on",
        [WEIR__KTLS_TX] = "tx",     [WEIR__KTLS_TX + 1] = NULL,
    };
    unsigned index;
    if (!parse_name(value, names, &index))
        return false;
    options->ktls = (enum weir__ktls)index;
    return true;
}

static bool parse_version(const char *value, enum weir_tls_version *version)
{
    static const char *const names[] = {"1.2", "1.3", NULL};
    unsigned index;
    if (!parse_name(value, names, &index))
        return false;
    *version = index == 0 ? WEIR_TLS_1_2 : WEIR_TLS_1_3;
    return true;
}

static bool set_tls_min(struct weir__options *options, const char *value)
{
    return parse_version(value, &options->tls_min);
}

static bool set_tls_max(struct weir__options *options, const char *value)
{
    return parse_version(value, &options->tls_max);
}

static bool set_client_ca(struct weir__options *options, const char *value)
{
    return set_file(&options->client_ca, value);
}

static bool set_client_certificate(struct weir__options *options, const char *value)
{
    static const char *const names[] = {"optional", "required", NULL};
    unsigned index;
    if (!parse_name(value, names, &index))
        return false;
    options->client_certificate = index == 0 ? WEIR_TLS_PEER_OPTIONAL : WEIR_TLS_PEER_REQUIRED;
    return true;
}

static bool set_ticket_keys(struct weir__options *options, const char *value)
{
    return set_file(&options->ticket_keys, value);
}

static bool set_tls_key_log(struct weir__options *options, const char *value)
{
    return set_file(&options->tls_key_log_insecure, value);
}

static bool set_tls_records_max(struct weir__options *options, const char *value)
{
    uint64_t number;
    if (!parse_number(value, TLS_RECORDS_MAX, &number) || number == 0)
        return false;
    options->tls_records_max = (uint32_t)number;
    return true;
}

static bool set_json(struct weir__options *options, const char *value)
{
    (void)value;
    options->json = true;
    return true;
}

static bool set_explain(struct weir__options *options, const char *value)
{
    (void)value;
    options->explain = true;
    return true;
}

struct option {
    const char *name;
    const char *takes; /* what its value is, for error lines; NULL = it takes none */
    bool (*set)(struct weir__options *options, const char *value);
};

static const struct option serve_options[] = {
    {"--listen", "ADDR:PORT, at most 16 times", set_listen},
    {"--listen-tls", "ADDR:PORT, at most 16 times", set_listen_tls},
    {"--cert", "a file's name, at most 16 times", set_certificate},
    {"--key", "a file's name, at most 16 times", set_key},
    {"--tls", "openssl, gnutls, wolfssl or mbedtls", set_tls_vendor},
    {"--tls-cipher", "auto or library", set_tls_cipher},
    {"--ktls", "auto, off, on or tx", set_ktls},
    {"--tls-min", "1.2 or 1.3", set_tls_min},
    {"--tls-max", "1.2 or 1.3", set_tls_max},
    {"--client-ca", "a file's name", set_client_ca},
    {"--client-cert", "optional or required", set_client_certificate},
    {"--ticket-keys", "a file's name", set_ticket_keys},
    {"--tls-rekey", "a number of records from 1 to 16711680", set_tls_records_max},
    {"--tls-key-log-insecure", "a file's name", set_tls_key_log},
    {"--delivery", "on or off", set_delivery},
    {"--engine", "auto, io_uring, epoll or poll", set_engine},
    {"--zerocopy", "auto, off or on", set_zerocopy},
    {"--threads", "auto or a number from 1 to 256", set_threads},
    {"--access-log", "a file's name, - or off", set_access_log},
    {"--log-format", "json or combined", set_log_format},
    {"--max-connections", "a number from 1 to 10000000", set_connections_max},
    {"--header-timeout", "seconds from 0.001 to 86400", set_header_timeout},
    {"--body-timeout", "seconds from 0.001 to 86400", set_body_timeout},
    {"--idle-timeout", "seconds from 0.001 to 86400", set_idle_timeout},
    {"--min-rate", "bytes per second", set_rate_min},
    {"--send-timeout", "seconds from 0.001 to 86400", set_send_timeout},
    {"--drain-timeout", "seconds from 0.001 to 86400", set_drain_timeout},
    {"--admin", "ADDR:PORT", set_admin},
    {NULL, NULL, NULL},
};

static const struct option doctor_options[] = {
    {"--json", NULL, set_json},
    {"--explain", NULL, set_explain},
    {NULL, NULL, NULL},
};

/* ---- commands */

struct command {
    const char *name;
    enum weir__command command;
    const struct option *options;
    unsigned word_count_max;
    const char *help;
};

static const struct command commands[] = {
    {"serve", WEIR__COMMAND_SERVE, serve_options, 1, HELP_SERVE HELP_SERVE_TLS},
    {"doctor", WEIR__COMMAND_DOCTOR, doctor_options, 0, HELP_DOCTOR},
};

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    }
    return NULL;
}

static void set_defaults(struct weir__options *options)
{
    *options = (struct weir__options){
        .directory = ".",
        .delivery = true,
        .engine = WEIR_ENGINE_AUTO,
        .zerocopy = WEIR_ZEROCOPY_AUTO,
        .access_log = "-",
        .log_format = WEIR__LOG_JSON,
        .connections_max = 10000,
        .header_timeout_ms = 10000,
        .body_timeout_ms = 30000,
        .idle_timeout_ms = 60000,
        .send_timeout_ms = 30000,
        .drain_timeout_ms = 30000,
        .rate_min_bytes_per_second = 500,
        .tls_min = WEIR_TLS_1_2,
        .tls_max = WEIR_TLS_1_3,
        .client_certificate = WEIR_TLS_PEER_OPTIONAL,
        .tls_records_max = TLS_RECORDS_MAX,
    };
}

static bool is_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

/* Reads one option, "--name value" or "--name=value"; `*index` moves on to its last word. */
static int parse_option(struct weir__options *options, const struct option *option, int argc,
                        char *const *argv, int *index, char *error)
{
    const char *word = argv[*index];
    size_t name_length = strcspn(word, "=");
    const char *value = word[name_length] == '=' ? word + name_length + 1 : NULL;

    while (option->name &&
           (strlen(option->name) != name_length || memcmp(option->name, word, name_length) != 0))
        option++;
    if (!option->name)
        return fail(error, "unknown option '%.100s'", word);
    if (!option->takes) {
        if (value)
            return fail(error, "option '%s' takes no value", option->name);
    } else if (!value) {
        if (*index + 1 == argc)
            return fail(error, "option '%s' takes %s", option->name, option->takes);
        value = argv[++*index];
    }
    if (!option->set(options, value))
        return fail(error, "'%.100s' is no value for '%s': it takes %s", value, option->name,
                    option->takes);
    return 0;
}

/* What options say together. */
static int check_together(struct weir__options *options, char *error)
{
    const char *in_vain = options->certificate_count > 0  ? "--cert"
                          : options->key_count > 0        ? "--key"
                          : options->client_ca            ? "--client-ca"
                          : options->ticket_keys          ? "--ticket-keys"
                          : options->tls_key_log_insecure ? "--tls-key-log-insecure"
                                                          : NULL;

    if (in_vain && options->listen_tls_count == 0)
        return fail(error, "option '%s' is for '--listen-tls', which is missing", in_vain);
    if (options->certificate_count != options->key_count)
        return fail(error, "each '--cert' takes a '--key': there are %u and %u",
                    options->certificate_count, options->key_count);
    if (options->tls_min > options->tls_max)
        return fail(error, "'--tls-min' is newer than '--tls-max'");
    if (options->client_certificate == WEIR_TLS_PEER_REQUIRED && !options->client_ca)
        return fail(error, "option '--client-cert' is for '--client-ca', which is missing");
    return 0;
}

static int parse_command(struct weir__options *options, const struct command *command, int argc,
                         char *const *argv, char *error)
{
    bool options_ended = false;
    unsigned word_count = 0;

    options->command = command->command;
    for (int i = 2; i < argc; i++) {
        const char *word = argv[i];
        if (!options_ended && strcmp(word, "--") == 0) {
            options_ended = true;
        } else if (!options_ended && is_help(word)) {
            options->command = WEIR__COMMAND_HELP;
            options->help = command->help;
            return 0;
        } else if (!options_ended && word[0] == '-' && word[1]) {
            if (parse_option(options, command->options, argc, argv, &i, error) != 0)
                return WEIR_EINVAL;
        } else if (word_count++ == command->word_count_max || !*word) {
            return fail(error, "unexpected word '%.100s'", word);
        } else {
            options->directory = word;
        }
    }
    if (options->listen_count == 0)
        add_listen(options, "127.0.0.1:8080", false);
    return check_together(options, error);
}

int weir__options_parse(struct weir__options *options, int argc, char *const *argv,
                        char error[WEIR__OPTIONS_ERROR_MAX])
{
    set_defaults(options);
    if (argc < 2)
        return fail(error, "a command is missing; 'weir --help' lists them");

    const char *word = argv[1];
    const char *topic = argc > 2 ? argv[2] : NULL;
    const struct command *command = find_command(word);
    if (command)
        return parse_command(options, command, argc, argv, error);
    if (strcmp(word, "--version") == 0) {
        options->command = WEIR__COMMAND_VERSION;
        return topic ? fail(error, "unexpected word '%.100s'", topic) : 0;
    }
    if (strcmp(word, "help") != 0 && !is_help(word))
        return fail(error, "unknown %s '%.100s'; 'weir --help' lists what there is",
                    word[0] == '-' ? "option" : "command", word);
    options->command = WEIR__COMMAND_HELP;
    options->help = HELP_GENERAL;
    if (!topic)
        return 0;
    command = find_command(topic);
    if (!command || argc > 3)
        return fail(error, "unexpected word '%.100s'", command ? argv[3] : topic);
    options->help = command->help;
    return 0;
}
