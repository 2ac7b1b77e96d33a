/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The parser beside libhttp-parser, on requests that a grammar makes and mutations spoil.
 *
 * - What the grammar makes is valid: it must be accepted.
 * - What is accepted here must be accepted there and mean the same: method, target, fields,
 *   framing, body, persistence, length. The exceptions stand in `leniencies`.
 * - What is refused here but not there must be refused for a reason in `reasons`, and a regular
 *   expression, which knows nothing of the parser, must agree that the reason is there.
 *   What both refuse needs none.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <http_parser.h>
#include <regex.h>

#include "http/field.h"
#include "http/h1.h"
#include "support/h1_generate.h"

#define REQUESTS      250000
#define REQUESTS_SLOW 50000 /* under a sanitizer, which WEIR_SLOW tells */
#define SEED          UINT64_C(20261123)
#define HEADERS_MAX   32

enum outcome { REFUSED, INCOMPLETE, ACCEPTED };

/* What libhttp-parser makes of a stream. */
struct theirs {
    enum outcome outcome;
    enum http_errno error;
    size_t length;
    bool head_complete;
    bool keep_alive;
    bool chunked;
    bool has_length;
    bool in_value;
    uint64_t content_length;
    struct http_parser parser;
    struct stream target;
    struct stream body;
    unsigned header_count;
    struct stream names[HEADERS_MAX];
    struct stream values[HEADERS_MAX];
};

static int append(struct stream *stream, const char *data, size_t length)
{
    if (stream->length + length > STREAM_MAX)
        return 1;
    memcpy(stream->data + stream->length, data, length);
    stream->length += length;
    return 0;
}

static int on_url(http_parser *parser, const char *data, size_t length)
{
    return append(&((struct theirs *)parser->data)->target, data, length);
}

static int on_body(http_parser *parser, const char *data, size_t length)
{
    return append(&((struct theirs *)parser->data)->body, data, length);
}

static int on_header_field(http_parser *parser, const char *data, size_t length)
{
    struct theirs *theirs = parser->data;

    if (theirs->head_complete) /* a trailer */
        return 0;
    if (theirs->in_value || theirs->header_count == 0) {
        if (theirs->header_count == HEADERS_MAX)
            return 1;
        theirs->names[theirs->header_count].length = 0;
        theirs->values[theirs->header_count].length = 0;
        theirs->header_count++;
        theirs->in_value = false;
    }
    return append(&theirs->names[theirs->header_count - 1], data, length);
}

static int on_header_value(http_parser *parser, const char *data, size_t length)
{
    struct theirs *theirs = parser->data;

    if (theirs->head_complete)
        return 0;
    theirs->in_value = true;
    return append(&theirs->values[theirs->header_count - 1], data, length);
}

static int on_headers_complete(http_parser *parser)
{
    struct theirs *theirs = parser->data;

    theirs->head_complete = true;
    theirs->keep_alive = http_should_keep_alive(parser);
    theirs->chunked = parser->flags & F_CHUNKED;
    theirs->has_length = parser->flags & F_CONTENTLENGTH;
    theirs->content_length = parser->content_length;
    return 0;
}

static int on_message_complete(http_parser *parser)
{
    ((struct theirs *)parser->data)->outcome = ACCEPTED;
    http_parser_pause(parser, 1);
    return 0;
}

static void theirs_run(struct theirs *theirs, const struct stream *stream)
{
    http_parser_settings settings;

    http_parser_settings_init(&settings);
    settings.on_url = on_url;
    settings.on_body = on_body;
    settings.on_header_field = on_header_field;
    settings.on_header_value = on_header_value;
    settings.on_headers_complete = on_headers_complete;
    settings.on_message_complete = on_message_complete;
    memset(theirs, 0, offsetof(struct theirs, target));
    theirs->outcome = INCOMPLETE;
    theirs->target.length = theirs->body.length = 0;
    theirs->header_count = 0;
    http_parser_init(&theirs->parser, HTTP_REQUEST);
    theirs->parser.data = theirs;
    theirs->length = http_parser_execute(&theirs->parser, &settings, stream->data, stream->length);
    theirs->error = HTTP_PARSER_ERRNO(&theirs->parser);
    if (theirs->outcome != ACCEPTED && theirs->error != HPE_OK)
        theirs->outcome = REFUSED;
}

/* What Weir makes of it. */
struct ours {
    enum outcome outcome;
    const char *reason;
    size_t length;
    bool head_complete;
    struct weir__request request;
    struct stream body;
};

static void ours_run(struct ours *ours, const struct stream *stream)
{
    struct weir__h1_parser parser;
    struct weir__h1_body body;
    int result;

    ours->outcome = INCOMPLETE;
    ours->body.length = 0;
    ours->head_complete = false;
    weir__h1_init(&parser);
    result = weir__h1_parse_head(&parser, stream->data, stream->length, &ours->request);
    if (result < 0) {
        ours->outcome = REFUSED;
        ours->reason = parser.reason;
    }
    if (result <= 0)
        return;
    ours->head_complete = true;
    ours->length = (size_t)result;
    weir__h1_body_init(&body, &ours->request);
    do {
        struct weir__text content;
        size_t consumed;
        result = weir__h1_body_consume(&body, stream->data + ours->length,
                                       stream->length - ours->length, &consumed, &content);
        ours->length += consumed;
        append(&ours->body, content.data, content.length);
    } while (result == WEIR__H1_BODY_MORE && ours->length < stream->length);
    if (result < 0) {
        ours->outcome = REFUSED;
        ours->reason = body.reason;
    } else if (result == WEIR__H1_BODY_DONE) {
        ours->outcome = ACCEPTED;
    }
}

/* How the refusal of something that libhttp-parser accepts is proved. */
enum proof {
    PROOF_FIRST_LINE,     /* the request line matches */
    PROOF_NOT_FIRST_LINE, /* it does not */
    PROOF_SOME_LINE,      /* some line matches */
    PROOF_VALUE,          /* a field's value matches */
    PROOF_NOT_VALUE,      /* a field's value does not, or there is more than one */
    PROOF_REPEATED,       /* a field is there twice */
    PROOF_ABSENT,         /* a field is not there */
    PROOF_IN_BODY,        /* behind a head that was accepted: nothing more is looked at */
};

#define TOKEN   "[!#$%&'*+.^_`|~0-9a-zA-Z-]"
#define HOST    "[-!$%&'()*+,.;=_~0-9a-zA-Z]"
#define LITERAL "\\[[-!$%&'()*+,.;=_~0-9a-zA-Z:]+\\]"
#define TARGET  "[!\"$-~]"

static const struct {
    const char *reason;
    enum proof proof;
    const char *field;
    const char *pattern;
} reasons[] = {
    {"LF without CR", PROOF_SOME_LINE, NULL, "\n"},
    {"CR without LF", PROOF_SOME_LINE, NULL, "\r"},
    {"control character", PROOF_SOME_LINE, NULL, "[\x01-\x08\x0b-\x1f\x7f]"},
    {"empty lines instead of a request", PROOF_SOME_LINE, NULL, "^$"},
    {"no target behind the method", PROOF_NOT_FIRST_LINE, NULL, "^" TOKEN "+ " TARGET},
    {"no HTTP version in the request line", PROOF_FIRST_LINE, NULL, "^" TOKEN "+ [^ ]+$"},
    {"invalid character in the target", PROOF_NOT_FIRST_LINE, NULL, "^[^ ]+ " TARGET "+( |$)"},
    {"malformed HTTP version", PROOF_NOT_FIRST_LINE, NULL, "^[^ ]+ [^ ]+ HTTP/[0-9][.][0-9]$"},
    {"HTTP version not supported", PROOF_FIRST_LINE, NULL, " HTTP/[^1][.][0-9]$"},
    {"CONNECT's target is not host:port", PROOF_NOT_FIRST_LINE, NULL,
     "^CONNECT (" LITERAL "|" HOST "+):[0-9]{1,4} "},
    {"the target * is for OPTIONS", PROOF_NOT_FIRST_LINE, NULL, "^OPTIONS "},
    {"the target has none of the four forms", PROOF_NOT_FIRST_LINE, NULL,
     "^[^ ]+ (/|[*] |[^:]+://)"},
    {"the target's scheme is not http or https", PROOF_NOT_FIRST_LINE, NULL,
     "^[^ ]+ [Hh][Tt][Tt][Pp][Ss]?:"},
    {"the target's host is not valid", PROOF_NOT_FIRST_LINE, NULL,
     "^[^ ]+ [^:]+://(" LITERAL "|" HOST "+)(:[0-9]{0,4})?([/?]| )"},
    {"folded field line", PROOF_SOME_LINE, NULL, "^[ \t]"},
    {"white space in a field name", PROOF_SOME_LINE, NULL, "^[^: \t]*[ \t]"},
    {"no Host field", PROOF_ABSENT, "host", ""},
    {"more than one Host field", PROOF_REPEATED, "host", ""},
    {"invalid Host field", PROOF_NOT_VALUE, "host", "^(" LITERAL "|" HOST "*)(:[0-9]{0,4})?$"},
    {"Content-Length too large", PROOF_VALUE, "content-length", "^0*[1-9][0-9]{18,}$"},
    {"tab in Content-Length or Transfer-Encoding", PROOF_SOME_LINE, NULL,
     "^[CcTt][A-Za-z]+-[EeLl][A-Za-z]+:.*\t"},
    {"Transfer-Encoding in HTTP/1.0", PROOF_FIRST_LINE, NULL, " HTTP/1[.]0$"},
    {"chunked is not the last transfer coding", PROOF_NOT_VALUE, "transfer-encoding", "^chunked$"},
    {"malformed Transfer-Encoding", PROOF_NOT_VALUE, "transfer-encoding", "^[^,]+$"},
    {"unknown transfer coding", PROOF_NOT_VALUE, "transfer-encoding", "^[Cc]hunked$"},
    {"malformed chunk size or extension", PROOF_IN_BODY, NULL, ""},
    {"white space at the end of a chunk's size", PROOF_IN_BODY, NULL, ""},
    {"chunk without a size", PROOF_IN_BODY, NULL, ""},
    {"chunk line without CRLF", PROOF_IN_BODY, NULL, ""},
    {"malformed chunk extension", PROOF_IN_BODY, NULL, ""},
    {"control character in a chunk extension", PROOF_IN_BODY, NULL, ""},
    {"malformed trailer", PROOF_IN_BODY, NULL, ""},
    {"control character in a trailer", PROOF_IN_BODY, NULL, ""},
};

#define REASON_COUNT (sizeof(reasons) / sizeof(reasons[0]))
static regex_t patterns[REASON_COUNT];
static unsigned refusals[REASON_COUNT];

/* What is accepted here and refused there, or understood in another way, on purpose. */
enum leniency { METHOD, LONGER_NAME, TRAILER, CHUNK_TAB, CONNECTION, LENIENCY_COUNT };
static const char *const leniency_texts[LENIENCY_COUNT] = {
    [METHOD] = "a method that libhttp-parser does not know",
    [LONGER_NAME] = "another field whose name begins with Transfer-Encoding",
    [TRAILER] = "Content-Length or Transfer-Encoding as a trailer, which is dropped here",
    [CHUNK_TAB] = "a tab behind a chunk's size and before its extension",
    [CONNECTION] = "a Connection that libhttp-parser reads in another way",
};
static unsigned leniencies[LENIENCY_COUNT];

/* The next line, without CRLF, NUL as another control byte; false at the end. */
static bool line_next(const struct stream *stream, size_t *at, char *line)
{
    size_t length = 0;

    if (*at >= stream->length)
        return false;
    for (; *at < stream->length; (*at)++) {
        if (*at + 1 < stream->length && memcmp(stream->data + *at, "\r\n", 2) == 0) {
            *at += 2;
            break;
        }
        line[length++] = stream->data[*at] == '\0' ? '\x01' : stream->data[*at];
    }
    line[length] = '\0';
    return true;
}

static bool reason_holds(size_t index, const struct stream *stream, bool head_complete)
{
    static char line[STREAM_MAX + 1];
    enum proof proof = reasons[index].proof;
    const char *field = reasons[index].field;
    unsigned fields = 0;
    bool some = false;
    bool first = true;
    size_t at = 0;

    if (proof == PROOF_IN_BODY)
        return head_complete;
    while (line_next(stream, &at, line)) {
        const char *subject = line;
        if (line[0] == '\0' && !first)
            break; /* the head's end */
        first = first && line[0] == '\0';
        if (field != NULL) {
            size_t length = strlen(field);
            struct weir__text name = {line, length};
            if (strlen(line) <= length || line[length] != ':' ||
                !weir__text_equals_ignoring_case(name, field))
                continue;
            struct weir__text value = {line + length + 1, strlen(line + length + 1)};
            value = weir__text_trim(value);
            line[value.data - line + value.length] = '\0';
            subject = value.data;
            fields++;
        }
        bool match = regexec(&patterns[index], subject, 0, NULL, 0) == 0;
        if (proof == PROOF_FIRST_LINE || proof == PROOF_NOT_FIRST_LINE) {
            if (line[0] != '\0')
                return match == (proof == PROOF_FIRST_LINE);
            continue;
        }
        some |= match == (proof != PROOF_NOT_VALUE);
    }
    switch (proof) {
    case PROOF_REPEATED:
        return fields > 1;
    case PROOF_ABSENT:
        return fields == 0;
    case PROOF_NOT_VALUE:
        return some || fields > 1;
    default:
        return some;
    }
}

static void stream_print(const struct stream *stream)
{
    for (size_t i = 0; i < stream->length; i++) {
        unsigned char byte = (unsigned char)stream->data[i];
        if (byte >= ' ' && byte < 0x7f && byte != '\\')
            print_message("%c", byte);
        else
            print_message("\\x%02x%s", byte, byte == '\n' ? "\n" : "");
    }
    print_message("\n");
}

static void refusal_check(const struct ours *ours, const struct stream *stream)
{
    for (size_t i = 0; i < REASON_COUNT; i++) {
        if (strcmp(reasons[i].reason, ours->reason) == 0) {
            refusals[i]++;
            if (!reason_holds(i, stream, ours->head_complete)) {
                stream_print(stream);
                fail_msg("refused with \"%s\", but that is not so", ours->reason);
            }
            return;
        }
    }
    stream_print(stream);
    fail_msg("refused for an unknown reason: %s", ours->reason);
}

static bool same(struct weir__text text, const struct stream *stream)
{
    return text.length == stream->length &&
           (text.length == 0 || memcmp(text.data, stream->data, text.length) == 0);
}

/*
 * libhttp-parser stops reading a list at an empty element and at what is no token, overlooks the
 * comma behind the beginning of a word that it knows ("clos, close"), and takes no tab for white
 * space.
 */
static bool list_differs(struct weir__text list)
{
    static const char *const pattern =
        "^((close|keep-alive|upgrade|[!#$%&'*+.^_`|~abd-jl-tv-z0-9-]" TOKEN "*) *(, *|$))+$";
    static regex_t compiled;
    static bool ready;
    char text[STREAM_MAX + 1];

    if (!ready)
        assert_int_equal(regcomp(&compiled, pattern, REG_EXTENDED | REG_NOSUB | REG_ICASE), 0);
    ready = true;
    memcpy(text, list.data, list.length);
    text[list.length] = '\0';
    return list.data[list.length] != '\r' || regexec(&compiled, text, 0, NULL, 0) != 0;
}

/* It also reads Proxy-Connection as Connection, and lets keep-alive win over close in HTTP/1.0. */
static bool connection_differs(const struct weir__request *request)
{
    bool close = false;
    bool keep = false;

    for (unsigned i = 0; i < request->header_count; i++) {
        const struct weir__header *header = &request->headers[i];
        if (weir__text_equals_ignoring_case(header->name, "proxy-connection"))
            return true;
        if (header->field != WEIR__FIELD_CONNECTION)
            continue;
        if (list_differs(header->value))
            return true;
        close |= weir__list_has(header->value, "close");
        keep |= weir__list_has(header->value, "keep-alive");
    }
    return request->version_minor == 0 && close && keep;
}

static const char *headers_compare(const struct weir__request *request, const struct theirs *theirs)
{
    if (request->header_count != theirs->header_count)
        return "number of fields";
    for (unsigned i = 0; i < theirs->header_count; i++) {
        const struct stream *value = &theirs->values[i];
        struct weir__text trimmed =
            weir__text_trim((struct weir__text){value->data, value->length});
        if (!same(request->headers[i].name, &theirs->names[i]))
            return "field name";
        if (trimmed.length != request->headers[i].value.length ||
            memcmp(trimmed.data, request->headers[i].value.data, trimmed.length) != 0)
            return "field value";
    }
    return NULL;
}

/* What differs, or NULL. */
static const char *meaning_compare(const struct ours *ours, const struct theirs *theirs)
{
    const struct weir__request *request = &ours->request;
    const char *difference = headers_compare(request, theirs);

    if (difference != NULL)
        return difference;
    if (!weir__text_equals(request->method_text,
                           http_method_str((enum http_method)theirs->parser.method)))
        return "method";
    if (!same(request->target, &theirs->target))
        return "target";
    if (request->version_major != theirs->parser.http_major ||
        request->version_minor != theirs->parser.http_minor)
        return "version";
    if ((request->framing == WEIR__FRAMING_CHUNKED) != theirs->chunked ||
        (request->framing == WEIR__FRAMING_LENGTH) != theirs->has_length)
        return "framing";
    if (theirs->has_length && request->content_length != theirs->content_length)
        return "content length";
    if (request->keep_alive != theirs->keep_alive) {
        if (!connection_differs(request))
            return "persistence";
        leniencies[CONNECTION]++;
    }
    if (request->method == WEIR__METHOD_CONNECT) /* whose body they never read */
        return NULL;
    if (ours->length != theirs->length)
        return "length";
    if (ours->body.length != theirs->body.length ||
        memcmp(ours->body.data, theirs->body.data, ours->body.length) != 0)
        return "body";
    return NULL;
}

static bool longer_name(const struct weir__request *request)
{
    const char *known = "transfer-encoding";

    for (unsigned i = 0; i < request->header_count; i++) {
        struct weir__text name = request->headers[i].name;
        bool longer = name.length > strlen(known);
        name.length = strlen(known);
        if (longer && weir__text_equals_ignoring_case(name, known))
            return true;
    }
    return false;
}

static bool leniency_find(const struct ours *ours, const struct theirs *theirs,
                          const struct stream *stream, enum leniency *leniency)
{
    const struct weir__request *request = &ours->request;

    *leniency = METHOD;
    if (theirs->error == HPE_INVALID_METHOD && request->method == WEIR__METHOD_OTHER)
        return true;
    *leniency = LONGER_NAME;
    if ((theirs->error == HPE_INVALID_TRANSFER_ENCODING ||
         theirs->error == HPE_UNEXPECTED_CONTENT_LENGTH) &&
        longer_name(request))
        return true;
    *leniency = CHUNK_TAB;
    if (theirs->chunked && theirs->error == HPE_INVALID_CHUNK_SIZE)
        return stream->data[theirs->length] == '\t';
    *leniency = TRAILER;
    return theirs->head_complete && theirs->chunked &&
           (theirs->error == HPE_INVALID_CONTENT_LENGTH ||
            theirs->error == HPE_UNEXPECTED_CONTENT_LENGTH ||
            theirs->error == HPE_INVALID_TRANSFER_ENCODING);
}

static void acceptance_check(const struct ours *ours, const struct theirs *theirs,
                             const struct stream *stream)
{
    const char *difference;
    enum leniency leniency;

    if (leniency_find(ours, theirs, stream, &leniency)) {
        leniencies[leniency]++;
        return;
    }
    if (theirs->outcome != ACCEPTED) {
        stream_print(stream);
        fail_msg("accepted, but libhttp-parser: %s", http_errno_name(theirs->error));
    }
    difference = meaning_compare(ours, theirs);
    if (difference != NULL) {
        stream_print(stream);
        fail_msg("the %s differs", difference);
    }
}

/* The target's parts, as libhttp-parser's other parser cuts it. */
static void url_check(const struct ours *ours, const struct stream *stream)
{
    const struct weir__request *request = &ours->request;
    struct weir__text path = request->path;
    struct weir__text query = request->query;
    struct http_parser_url url;

    if (path.data == NULL)
        return;
    http_parser_url_init(&url);
    if (http_parser_parse_url(request->target.data, request->target.length, 0, &url) != 0)
        return;
    const char *their_path =
        url.field_set & 1 << UF_PATH ? request->target.data + url.field_data[UF_PATH].off : "/";
    size_t their_path_length =
        url.field_set & 1 << UF_PATH ? url.field_data[UF_PATH].len : strlen("/");
    if (path.length != their_path_length || memcmp(path.data, their_path, path.length) != 0) {
        stream_print(stream);
        fail_msg("the path differs");
    }
    if (query.length != (url.field_set & 1 << UF_QUERY ? url.field_data[UF_QUERY].len : 0) ||
        (query.length > 0 && query.data != request->target.data + url.field_data[UF_QUERY].off)) {
        stream_print(stream);
        fail_msg("the query differs");
    }
}

static void test_differential(void **state)
{
    static struct stream stream;
    static struct ours ours;
    static struct theirs theirs;
    unsigned counts[3][3] = {{0}};

    (void)state;
    const unsigned requests = getenv("WEIR_SLOW") ? REQUESTS_SLOW : REQUESTS;
    random_state = SEED;
    for (size_t i = 0; i < REASON_COUNT; i++)
        assert_int_equal(regcomp(&patterns[i], reasons[i].pattern, REG_EXTENDED | REG_NOSUB), 0);
    for (unsigned i = 0; i < requests; i++) {
        request_make(&stream);
        unsigned mutations = i % 5 < 2 ? 0 : random_below(3) + 1;
        for (unsigned m = 0; m < mutations; m++)
            mutate(&stream);
        ours_run(&ours, &stream);
        theirs_run(&theirs, &stream);
        counts[ours.outcome][theirs.outcome]++;
        if (mutations == 0 && ours.outcome != ACCEPTED) {
            stream_print(&stream);
            fail_msg("a valid request was not accepted");
        }
        if (ours.outcome == ACCEPTED) {
            acceptance_check(&ours, &theirs, &stream);
            url_check(&ours, &stream);
        } else if (ours.outcome == REFUSED && theirs.outcome != REFUSED) {
            refusal_check(&ours, &stream);
        } else if (ours.outcome == INCOMPLETE && theirs.outcome == ACCEPTED &&
                   !(ours.head_complete && ours.request.method == WEIR__METHOD_CONNECT)) {
            stream_print(&stream);
            fail_msg("incomplete here, whole there");
        }
    }

    static const char *const names[] = {"refused", "incomplete", "accepted"};
    for (unsigned i = 0; i < 3; i++)
        for (unsigned k = 0; k < 3; k++)
            print_message("%8u %s here, %s there\n", counts[i][k], names[i], names[k]);
    for (size_t i = 0; i < REASON_COUNT; i++) {
        print_message("%8u refused here only: %s\n", refusals[i], reasons[i].reason);
        assert_true(refusals[i] > 0 || requests < REQUESTS); /* some are that rare */
        regfree(&patterns[i]);
    }
    for (unsigned i = 0; i < LENIENCY_COUNT; i++)
        print_message("%8u accepted here: %s\n", leniencies[i], leniency_texts[i]);
    assert_true(counts[ACCEPTED][ACCEPTED] > requests / 4);
    assert_true(counts[REFUSED][REFUSED] > requests / 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_differential),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
