/* SPDX-License-Identifier: Apache-2.0 */
#include "http/h1.h"

#include <assert.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "http/field.h"

static int refuse(struct weir__h1_parser *parser, int status, const char *reason)
{
    parser->status = status;
    parser->reason = reason;
    return status;
}

void weir__h1_init(struct weir__h1_parser *parser)
{
    *parser = (struct weir__h1_parser){0};
}

/*
 * The first byte in [at, end) that no line may hold but its terminator: controls other than HTAB,
 * and DEL. Returns `end` if there is none. What remains of a line is then visible, blank or
 * obs-text, so that only names and targets need a second look.
 */
static size_t control_find(const char *data, size_t at, size_t end)
{
#ifdef __SSE2__
    const __m128i last_control = _mm_set1_epi8(0x1f);
    const __m128i tab = _mm_set1_epi8('\t');
    const __m128i delete = _mm_set1_epi8(0x7f);

    for (; end - at >= 16; at += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(data + at));
        __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(bytes, last_control), bytes);
        __m128i found = _mm_or_si128(_mm_andnot_si128(_mm_cmpeq_epi8(bytes, tab), low),
                                     _mm_cmpeq_epi8(bytes, delete));
        unsigned mask = (unsigned)_mm_movemask_epi8(found);
        if (mask != 0)
            return at + (unsigned)__builtin_ctz(mask);
    }
#endif
    while (at < end && weir__character_is(data[at], WEIR__CHARACTER_VALUE))
        at++;
    return at;
}

/* How many bytes from the front of [text, end) are of the classes. */
static size_t span(const char *text, const char *end, unsigned classes)
{
    const char *at = text;

    while (at < end && weir__character_is(*at, classes))
        at++;
    return (size_t)(at - text);
}

static uint64_t load_lower(const char *text)
{
    uint64_t bytes;

    memcpy(&bytes, text, sizeof(bytes));
    return bytes | UINT64_C(0x2020202020202020);
}

/*
 * `lower`, in small letters and '-', has the length of `name`, which is a token: no other byte that
 * a token may hold becomes a letter or a '-' by | 0x20.
 */
static bool name_is(struct weir__text name, const char *lower)
{
    size_t i = 0;

    for (; i + sizeof(uint64_t) <= name.length; i += sizeof(uint64_t))
        if (load_lower(name.data + i) != load_lower(lower + i))
            return false;
    for (; i < name.length; i++)
        if ((name.data[i] | 0x20) != lower[i])
            return false;
    return true;
}

static enum weir__field field_find(struct weir__text name)
{
    /* By length; no more than two of the fields have the same. */
    static const struct {
        const char *name;
        enum weir__field field;
    } fields[20][2] = {
        [4] = {{"host", WEIR__FIELD_HOST}},
        [5] = {{"range", WEIR__FIELD_RANGE}},
        [6] = {{"expect", WEIR__FIELD_EXPECT}},
        [7] = {{"referer", WEIR__FIELD_REFERER}},
        [8] = {{"if-match", WEIR__FIELD_IF_MATCH}, {"if-range", WEIR__FIELD_IF_RANGE}},
        [10] = {{"user-agent", WEIR__FIELD_USER_AGENT}, {"connection", WEIR__FIELD_CONNECTION}},
        [13] = {{"if-none-match", WEIR__FIELD_IF_NONE_MATCH}},
        [14] = {{"content-length", WEIR__FIELD_CONTENT_LENGTH}},
        [15] = {{"accept-encoding", WEIR__FIELD_ACCEPT_ENCODING}},
        [17] = {{"if-modified-since", WEIR__FIELD_IF_MODIFIED_SINCE},
                {"transfer-encoding", WEIR__FIELD_TRANSFER_ENCODING}},
        [19] = {{"if-unmodified-since", WEIR__FIELD_IF_UNMODIFIED_SINCE}},
    };

    if (name.length >= sizeof(fields) / sizeof(fields[0]))
        return WEIR__FIELD_OTHER;
    for (unsigned i = 0; i < 2 && fields[name.length][i].name != NULL; i++)
        if (name_is(name, fields[name.length][i].name))
            return fields[name.length][i].field;
    return WEIR__FIELD_OTHER;
}

/* Methods are case-sensitive (RFC 9110 section 9.1). */
static enum weir__method method_find(struct weir__text text)
{
    static const char names[][8] = {
        [WEIR__METHOD_GET] = "GET",         [WEIR__METHOD_HEAD] = "HEAD",
        [WEIR__METHOD_POST] = "POST",       [WEIR__METHOD_PUT] = "PUT",
        [WEIR__METHOD_DELETE] = "DELETE",   [WEIR__METHOD_CONNECT] = "CONNECT",
        [WEIR__METHOD_OPTIONS] = "OPTIONS", [WEIR__METHOD_TRACE] = "TRACE",
        [WEIR__METHOD_PATCH] = "PATCH",
    };

    for (unsigned i = WEIR__METHOD_GET; i < sizeof(names) / sizeof(names[0]); i++)
        if (weir__text_equals(text, names[i]))
            return (enum weir__method)i;
    return WEIR__METHOD_OTHER;
}

/* uri-host [":" port] (RFC 9110 section 7.2), the port where it is not empty from 0 to 65535. */
static bool host_valid(struct weir__text host, bool port_needed)
{
    const char *at = host.data;
    const char *end = host.data + host.length;
    unsigned port = 0;

    if (host.length > 0 && *at == '[') {
        at += 1 + span(at + 1, end, WEIR__CHARACTER_HOST);
        if (at == end || *at != ']' || at == host.data + 1)
            return false;
        at++;
    } else {
        while (at < end && *at != ':' && weir__character_is(*at, WEIR__CHARACTER_HOST))
            at++;
    }
    if (at == end)
        return !port_needed;
    if (*at != ':' || (port_needed && (at == host.data || at + 1 == end)))
        return false;
    for (at++; at < end; at++) {
        if (!weir__character_is(*at, WEIR__CHARACTER_DIGIT))
            return false;
        port = port * 10 + (unsigned)(*at - '0');
        if (port > 65535)
            return false;
    }
    return true;
}

static void path_split(struct weir__request *request, struct weir__text path_and_query)
{
    const char *mark = memchr(path_and_query.data, '?', path_and_query.length);

    request->path = path_and_query;
    if (mark != NULL) {
        request->path.length = (size_t)(mark - path_and_query.data);
        request->query.data = mark + 1;
        request->query.length = path_and_query.length - request->path.length - 1;
    }
}

/* http-URI = "http://" authority path-abempty [ "?" query ], or https; without userinfo. */
static int target_absolute(struct weir__h1_parser *parser, struct weir__request *request)
{
    struct weir__text target = request->target;
    const char *end = target.data + target.length;
    const char *colon = memchr(target.data, ':', target.length);
    const char *at;

    if (colon == NULL || end - colon < 3 || colon[1] != '/' || colon[2] != '/')
        return refuse(parser, -400, "the target has none of the four forms");
    struct weir__text scheme = {target.data, (size_t)(colon - target.data)};
    if (!weir__text_equals_ignoring_case(scheme, "http") &&
        !weir__text_equals_ignoring_case(scheme, "https"))
        return refuse(parser, -400, "the target's scheme is not http or https");
    request->host.data = colon + 3;
    for (at = colon + 3; at < end && *at != '/' && *at != '?'; at++)
        continue;
    request->host.length = (size_t)(at - request->host.data);
    /* RFC 9110 section 4.2.1: an empty host is an error; section 4.2.4: so is userinfo. */
    if (request->host.length == 0 || request->host.data[0] == ':' ||
        !host_valid(request->host, false))
        return refuse(parser, -400, "the target's host is not valid");
    request->target_form = WEIR__TARGET_ABSOLUTE;
    path_split(request, (struct weir__text){at, (size_t)(end - at)});
    /* An empty path is "/" (RFC 9110 section 4.2.3), and one stands before the host. */
    if (request->path.length == 0)
        request->path = (struct weir__text){colon + 2, 1};
    return 0;
}

static int target_parse(struct weir__h1_parser *parser, struct weir__request *request)
{
    struct weir__text target = request->target;

    if (request->method == WEIR__METHOD_CONNECT) {
        if (!host_valid(target, true))
            return refuse(parser, -400, "CONNECT's target is not host:port");
        request->target_form = WEIR__TARGET_AUTHORITY;
        request->host = target;
        return 0;
    }
    if (target.data[0] == '/') {
        request->target_form = WEIR__TARGET_ORIGIN;
        path_split(request, target);
        return 0;
    }
    if (target.length == 1 && target.data[0] == '*') {
        if (request->method != WEIR__METHOD_OPTIONS)
            return refuse(parser, -400, "the target * is for OPTIONS");
        request->target_form = WEIR__TARGET_ASTERISK;
        return 0;
    }
    return target_absolute(parser, request);
}

/* `text` is what stands behind the target's space: "HTTP/1.1", or the line is refused. */
static int version_parse(struct weir__h1_parser *parser, struct weir__request *request,
                         struct weir__text text)
{
    if (text.length != 8 || memcmp(text.data, "HTTP/", 5) != 0 || text.data[6] != '.' ||
        !weir__character_is(text.data[5], WEIR__CHARACTER_DIGIT) ||
        !weir__character_is(text.data[7], WEIR__CHARACTER_DIGIT))
        return refuse(parser, -400, "malformed HTTP version");
    request->version_major = (uint8_t)(text.data[5] - '0');
    request->version_minor = (uint8_t)(text.data[7] - '0');
    /* A higher minor version is read as 1.1 (RFC 9110 section 2.5). */
    if (request->version_major != 1)
        return refuse(parser, -505, "HTTP version not supported");
    return 0;
}

static int request_line_parse(struct weir__h1_parser *parser, struct weir__text line,
                              struct weir__request *request)
{
    const char *at = line.data;
    const char *end = line.data + line.length;
    int status;

    request->method_text = (struct weir__text){at, span(at, end, WEIR__CHARACTER_TOKEN)};
    at += request->method_text.length;
    if (request->method_text.length == 0 || at == end || *at != ' ')
        return refuse(parser, -400, "malformed method");
    request->method = method_find(request->method_text);
    at++;
    request->target = (struct weir__text){at, span(at, end, WEIR__CHARACTER_TARGET)};
    at += request->target.length;
    if (request->target.length == 0)
        return refuse(parser, -400, "no target behind the method");
    if (at == end)
        return refuse(parser, -400, "no HTTP version in the request line");
    if (*at != ' ')
        return refuse(parser, -400, "invalid character in the target");
    /* The version comes first: "PRI * HTTP/2.0" is a version that is not served, not a bad target.
     */
    status = version_parse(parser, request, (struct weir__text){at + 1, (size_t)(end - at - 1)});
    if (status != 0)
        return status;
    return target_parse(parser, request);
}

/*
 * A tab around these values is white space (RFC 9110 section 5.6.3), but others take it for a part
 * of the value, and then see another end of the request.
 */
static bool framing_has_tab(enum weir__field field, struct weir__text raw)
{
    if (field != WEIR__FIELD_CONTENT_LENGTH && field != WEIR__FIELD_TRANSFER_ENCODING)
        return false;
    return memchr(raw.data, '\t', raw.length) != NULL;
}

static int field_line_parse(struct weir__h1_parser *parser, struct weir__text line,
                            struct weir__request *request)
{
    struct weir__header *header = &request->headers[request->header_count];
    size_t name_length = span(line.data, line.data + line.length, WEIR__CHARACTER_TOKEN);

    assert(request->header_count <= WEIR__REQUEST_HEADERS_MAX);
    if (weir__character_is(line.data[0], WEIR__CHARACTER_BLANK))
        return refuse(parser, -400, "folded field line");
    if (name_length == line.length)
        return refuse(parser, -400, "field line without a colon");
    if (line.data[name_length] != ':') {
        if (weir__character_is(line.data[name_length], WEIR__CHARACTER_BLANK))
            return refuse(parser, -400, "white space in a field name");
        return refuse(parser, -400, "invalid character in a field name");
    }
    if (name_length == 0)
        return refuse(parser, -400, "empty field name");
    if (request->header_count == WEIR__REQUEST_HEADERS_MAX)
        return refuse(parser, -431, "too many fields");

    struct weir__text raw = {line.data + name_length + 1, line.length - name_length - 1};
    header->name = (struct weir__text){line.data, name_length};
    header->value = weir__text_trim(raw);
    header->field = field_find(header->name);
    if (framing_has_tab(header->field, raw))
        return refuse(parser, -400, "tab in Content-Length or Transfer-Encoding");
    if (header->field != WEIR__FIELD_OTHER) {
        if (request->first[header->field] == WEIR__HEADER_NONE)
            request->first[header->field] = (uint8_t)request->header_count;
        else
            request->repeated |= 1u << header->field;
    }
    request->header_count++;
    return 0;
}

/* RFC 9112 section 3.2. */
static int host_check(struct weir__h1_parser *parser, struct weir__request *request)
{
    const struct weir__text *host = weir__request_value(request, WEIR__FIELD_HOST);

    if (host == NULL) {
        if (request->version_minor >= 1)
            return refuse(parser, -400, "no Host field");
        return 0;
    }
    if (weir__request_repeated(request, WEIR__FIELD_HOST))
        return refuse(parser, -400, "more than one Host field");
    if (!host_valid(*host, false))
        return refuse(parser, -400, "invalid Host field");
    if (request->host.data == NULL)
        request->host = *host;
    return 0;
}

/* 1*DIGIT. Up to INT64_MAX, so that sums with it do not wrap and it fits off_t. */
static int content_length_parse(struct weir__h1_parser *parser, struct weir__request *request)
{
    const struct weir__text *value = weir__request_value(request, WEIR__FIELD_CONTENT_LENGTH);
    uint64_t length = 0;

    /* Equal values could be merged (RFC 9112 section 6.3), but no honest client sends them. */
    if (weir__request_repeated(request, WEIR__FIELD_CONTENT_LENGTH))
        return refuse(parser, -400, "more than one Content-Length field");
    if (value->length == 0)
        return refuse(parser, -400, "invalid Content-Length");
    for (size_t i = 0; i < value->length; i++) {
        if (!weir__character_is(value->data[i], WEIR__CHARACTER_DIGIT))
            return refuse(parser, -400, "invalid Content-Length");
        unsigned digit = (unsigned)(value->data[i] - '0');
        if (length > ((uint64_t)INT64_MAX - digit) / 10)
            return refuse(parser, -400, "Content-Length too large");
        length = length * 10 + digit;
    }
    request->framing = WEIR__FRAMING_LENGTH;
    request->content_length = length;
    return 0;
}

/* "chunked" alone is served (RFC 9112 section 6.1); the rest here only tells why others are not. */
static int transfer_encoding_parse(struct weir__h1_parser *parser, struct weir__request *request)
{
    const struct weir__text *value = weir__request_value(request, WEIR__FIELD_TRANSFER_ENCODING);
    const struct weir__header *header = NULL;
    unsigned codings = 0;
    bool chunked = false;

    if (!weir__request_repeated(request, WEIR__FIELD_TRANSFER_ENCODING) &&
        weir__text_equals_ignoring_case(*value, "chunked")) {
        request->framing = WEIR__FRAMING_CHUNKED;
        return 0;
    }
    while ((header = weir__request_next(request, WEIR__FIELD_TRANSFER_ENCODING, header)) != NULL) {
        struct weir__text rest = header->value;
        struct weir__text coding;
        while (weir__list_next(&rest, &coding)) {
            if (chunked)
                return refuse(parser, -400, "chunked is not the last transfer coding");
            chunked = weir__text_equals_ignoring_case(coding, "chunked");
            codings++;
        }
    }
    if (codings == (chunked ? 1 : 0))
        return refuse(parser, -400, "malformed Transfer-Encoding");
    return refuse(parser, -501, "unknown transfer coding");
}

static int framing_parse(struct weir__h1_parser *parser, struct weir__request *request)
{
    bool has_length = request->first[WEIR__FIELD_CONTENT_LENGTH] != WEIR__HEADER_NONE;

    if (request->first[WEIR__FIELD_TRANSFER_ENCODING] != WEIR__HEADER_NONE) {
        if (request->version_minor == 0)
            return refuse(parser, -400, "Transfer-Encoding in HTTP/1.0");
        if (has_length)
            return refuse(parser, -400, "Content-Length and Transfer-Encoding");
        return transfer_encoding_parse(parser, request);
    }
    return has_length ? content_length_parse(parser, request) : 0;
}

/* True if any of a field's lines has the token. */
static bool lines_have(const struct weir__request *request, enum weir__field field,
                       const char *token)
{
    const struct weir__header *header = NULL;

    while ((header = weir__request_next(request, field, header)) != NULL)
        if (weir__list_has(header->value, token))
            return true;
    return false;
}

/* What needs all fields, and the version. */
static int head_finish(struct weir__h1_parser *parser, struct weir__request *request)
{
    int status = host_check(parser, request);

    if (status == 0)
        status = framing_parse(parser, request);
    if (status != 0)
        return status;

    /* RFC 9112 section 9.3: "close" wins. */
    request->keep_alive = request->version_minor >= 1;
    if (request->first[WEIR__FIELD_CONNECTION] != WEIR__HEADER_NONE) {
        if (!request->keep_alive)
            request->keep_alive = lines_have(request, WEIR__FIELD_CONNECTION, "keep-alive");
        if (lines_have(request, WEIR__FIELD_CONNECTION, "close"))
            request->keep_alive = false;
    }
    /* RFC 9110 section 10.1.1: not from HTTP/1.0, and nobody waits to send nothing. */
    request->expect_continue =
        request->version_minor >= 1 &&
        (request->framing == WEIR__FRAMING_CHUNKED || request->content_length > 0) &&
        lines_have(request, WEIR__FIELD_EXPECT, "100-continue");
    return 0;
}

static void text_move(struct weir__text *text, uintptr_t from, const char *to)
{
    if (text->data != NULL)
        text->data = to + ((uintptr_t)text->data - from);
}

/* The caller's buffer has moved: so do the views. */
static void views_move(const struct weir__h1_parser *parser, struct weir__request *request,
                       const char *data)
{
    text_move(&request->method_text, parser->base, data);
    text_move(&request->target, parser->base, data);
    text_move(&request->path, parser->base, data);
    text_move(&request->query, parser->base, data);
    text_move(&request->host, parser->base, data);
    for (unsigned i = 0; i < request->header_count; i++) {
        text_move(&request->headers[i].name, parser->base, data);
        text_move(&request->headers[i].value, parser->base, data);
    }
}

/*
 * Finds the end of the line that starts at parser->line: returns 1 with `*end` at its CR, which a
 * LF follows; 0 if it is not there yet; or a status. What it says depends on the bytes alone, not
 * on how they were split over the calls.
 */
static int line_find(struct weir__h1_parser *parser, const char *data, size_t length, size_t *end)
{
    bool in_block = parser->block > 0;
    /* The last place where this line's CR may stand. */
    size_t last = in_block ? parser->block + WEIR__H1_HEADER_BLOCK_MAX - 2
                           : parser->line + WEIR__H1_REQUEST_LINE_MAX;
    size_t at = control_find(data, parser->scanned, length <= last ? length : last + 1);

    parser->scanned = at;
    if (at > last)
        return in_block ? refuse(parser, -431, "the fields are too long")
                        : refuse(parser, -414, "the request line is too long");
    if (at == length)
        return 0;
    if (data[at] == '\n')
        return refuse(parser, -400, "LF without CR");
    if (data[at] != '\r')
        return refuse(parser, -400, "control character");
    if (at + 1 == length)
        return 0;
    if (data[at + 1] != '\n')
        return refuse(parser, -400, "CR without LF");
    *end = at;
    return 1;
}

int weir__h1_parse_head(struct weir__h1_parser *parser, const char *data, size_t length,
                        struct weir__request *request)
{
    size_t end;
    int found;

    if (parser->status != 0)
        return parser->status;
    if (length == 0)
        return WEIR__H1_INCOMPLETE;
    assert(length >= parser->scanned);
    if (parser->base == 0)
        weir__request_init(request);
    else if (parser->base != (uintptr_t)data)
        views_move(parser, request, data);
    parser->base = (uintptr_t)data;

    while ((found = line_find(parser, data, length, &end)) > 0) {
        struct weir__text line = {data + parser->line, end - parser->line};
        int status = 0;
        parser->line = parser->scanned = end + 2;
        if (parser->block > 0) {
            if (line.length == 0) {
                status = head_finish(parser, request);
                return status != 0 ? status : (int)parser->line;
            }
            status = field_line_parse(parser, line, request);
        } else if (line.length > 0) {
            status = request_line_parse(parser, line, request);
            parser->block = parser->line;
        } else if (++parser->leading_lines > WEIR__H1_LEADING_LINES_MAX) {
            status = refuse(parser, -400, "empty lines instead of a request");
        }
        if (status != 0)
            return status;
    }
    return found;
}
