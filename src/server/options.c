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

#define HELP_GENERAL                                                                               \
    "Weir, a file server that knows when the last byte arrived.\n"                                 \
    "\n"                                                                                           \
    "usage: weir serve [DIR] [OPTION]...   serve a folder; default: the current one\n"             \
    "       weir doctor [--json]           what this kernel and network can do, tried for real\n"  \
    "       weir help [COMMAND]\n"                                                                 \
    "       weir --help | --version\n"

#define HELP_SERVE                                                                                 \
    "usage: weir serve [DIR] [OPTION]...\n"                                                        \
    "\n"                                                                                           \
    "Serves the folder DIR (default: the current one) over HTTP/1.1.\n"                            \
    "\n"                                                                                           \
    "  --listen ADDR:PORT         where to listen; may be given up to 16 times\n"                  \
    "                             (default 127.0.0.1:8080)\n"                                      \
    "  --delivery on|off          find out when each response was delivered (default on)\n"        \
    "  --engine auto|io_uring|epoll|poll\n"                                                        \
    "                             how to talk to the kernel (default auto: the best that works)\n" \
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
    "\n"                                                                                           \
    "SECONDS may have up to three decimals. Signals: TERM and INT stop at once, QUIT drains,\n"    \
    "USR1 reopens the log.\n"

#define HELP_DOCTOR                                                                                \
    "usage: weir doctor [--json]\n"                                                                \
    "\n"                                                                                           \
    "Tries each thing that Weir can use of this kernel and network, and says which work.\n"        \
    "\n"                                                                                           \
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

static bool set_listen(struct weir__options *options, const char *value)
{
    if (options->listen_count == WEIR__OPTIONS_LISTEN_MAX)
        return false;
    if (weir_address_parse(&options->listen[options->listen_count], value) != 0)
        return false;
    options->listen_count++;
    return true;
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

static bool set_json(struct weir__options *options, const char *value)
{
    (void)value;
    options->json = true;
    return true;
}

struct option {
    const char *name;
    const char *takes; /* what its value is, for error lines; NULL = it takes none */
    bool (*set)(struct weir__options *options, const char *value);
};

static const struct option serve_options[] = {
    {"--listen", "ADDR:PORT, at most 16 times", set_listen},
    {"--delivery", "on or off", set_delivery},
    {"--engine", "auto, io_uring, epoll or poll", set_engine},
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
    {NULL, NULL, NULL},
};

static const struct option doctor_options[] = {
    {"--json", NULL, set_json},
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
    {"serve", WEIR__COMMAND_SERVE, serve_options, 1, HELP_SERVE},
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
        .access_log = "-",
        .log_format = WEIR__LOG_JSON,
        .connections_max = 10000,
        .header_timeout_ms = 10000,
        .body_timeout_ms = 30000,
        .idle_timeout_ms = 60000,
        .send_timeout_ms = 30000,
        .drain_timeout_ms = 30000,
        .rate_min_bytes_per_second = 500,
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
    if (options->listen_count == 0) {
        weir_address_parse(&options->listen[0], "127.0.0.1:8080");
        options->listen_count = 1;
    }
    return 0;
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
