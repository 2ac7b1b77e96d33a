/* SPDX-License-Identifier: Apache-2.0 */
#include "http/date.h"

#include <assert.h>
#include <string.h>

#define DAY_S           86400
#define DAYS_UNTIL_1970 719162 /* from 1 January of the year 1 */

static const char month_names[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                        "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
/* From the day of 1 January 1970 on. */
static const char *const weekday_names[7] = {"Thursday", "Friday",  "Saturday", "Sunday",
                                             "Monday",   "Tuesday", "Wednesday"};
static const uint16_t days_before_month[13] = {0,   31,  59,  90,  120, 151, 181,
                                               212, 243, 273, 304, 334, 365};

static bool is_leap(int64_t year)
{
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

/* Days from 1 January 1970 to 1 January of a year of our era. */
static int64_t days_before_year(int64_t year)
{
    int64_t past = year - 1;
    return past * 365 + past / 4 - past / 100 + past / 400 - DAYS_UNTIL_1970;
}

static int days_in_month(int64_t year, int month)
{
    int days = days_before_month[month + 1] - days_before_month[month];
    return month == 1 && is_leap(year) ? days + 1 : days;
}

static void put_digits(char *at, int count, int64_t value)
{
    for (int i = count - 1; i >= 0; i--) {
        at[i] = (char)('0' + value % 10);
        value /= 10;
    }
}

void weir__date_format(int64_t unix_s, char text[WEIR__DATE_LENGTH])
{
    assert(unix_s >= 0);
    assert(unix_s <= WEIR__DATE_MAX_S);
    int64_t days = unix_s / DAY_S;
    int64_t second = unix_s % DAY_S;

    int64_t year = 1970 + days / 366; /* never past the right one, and at most 17 years before it */
    while (days_before_year(year + 1) <= days)
        year++;
    int64_t day = days - days_before_year(year);
    int month = 0;
    while (day >= days_in_month(year, month)) {
        day -= days_in_month(year, month);
        month++;
    }

    memcpy(text, "Sun, 06 Nov 1994 08:49:37 GMT", WEIR__DATE_LENGTH);
    memcpy(text, weekday_names[days % 7], 3);
    put_digits(text + 5, 2, day + 1);
    memcpy(text + 8, month_names[month], 3);
    put_digits(text + 12, 4, year);
    put_digits(text + 17, 2, second / 3600);
    put_digits(text + 20, 2, second / 60 % 60);
    put_digits(text + 23, 2, second % 60);
}

void weir__date_cache_init(struct weir__date_cache *cache)
{
    cache->unix_s = -1;
}

const char *weir__date_cache_get(struct weir__date_cache *cache, int64_t unix_s)
{
    if (cache->unix_s != unix_s) {
        weir__date_format(unix_s, cache->text);
        cache->unix_s = unix_s;
    }
    return cache->text;
}

struct fields {
    int year, month, day, hour, minute, second;
};

/* Takes `count` digits. Returns their value, or -1. */
static int take_digits(struct weir__text *text, size_t count)
{
    int value = 0;
    if (text->length < count)
        return -1;
    for (size_t i = 0; i < count; i++) {
        if (text->data[i] < '0' || text->data[i] > '9')
            return -1;
        value = value * 10 + (text->data[i] - '0');
    }
    text->data += count;
    text->length -= count;
    return value;
}

static bool take_literal(struct weir__text *text, const char *literal, size_t length)
{
    if (text->length < length || memcmp(text->data, literal, length) != 0)
        return false;
    text->data += length;
    text->length -= length;
    return true;
}

static bool take_weekday(struct weir__text *text, bool in_full)
{
    for (int i = 0; i < 7; i++)
        if (take_literal(text, weekday_names[i], in_full ? strlen(weekday_names[i]) : 3))
            return true;
    return false;
}

static int take_month(struct weir__text *text)
{
    for (int i = 0; i < 12; i++)
        if (take_literal(text, month_names[i], 3))
            return i;
    return -1;
}

/*
 * Reads by a pattern: a w weekday short and in full, d e day with zero and with blank, b month, y z
 * year of four and of two digits, h n s hour, minute, second; all else stands for itself.
 */
static bool take_pattern(struct weir__text text, const char *pattern, struct fields *fields)
{
    for (; *pattern; pattern++) {
        int *number = NULL;
        size_t digits = 2;
        bool taken = true;
        switch (*pattern) {
        case 'a':
        case 'w':
            taken = take_weekday(&text, *pattern == 'w');
            break;
        case 'b':
            fields->month = take_month(&text);
            taken = fields->month >= 0;
            break;
        case 'e':
            digits = take_literal(&text, " ", 1) ? 1 : 2;
            number = &fields->day;
            break;
        case 'd':
            number = &fields->day;
            break;
        case 'y':
            digits = 4;
            number = &fields->year;
            break;
        case 'z':
            number = &fields->year;
            break;
        case 'h':
            number = &fields->hour;
            break;
        case 'n':
            number = &fields->minute;
            break;
        case 's':
            number = &fields->second;
            break;
        default:
            taken = take_literal(&text, pattern, 1);
            break;
        }
        if (number) {
            *number = take_digits(&text, digits);
            taken = *number >= 0;
        }
        if (!taken)
            return false;
    }
    return text.length == 0;
}

/* A year of two digits is the latest that is not more than 50 years ahead (RFC 9110 5.6.7). */
static int full_year(int two_digits, int64_t now_s)
{
    char now[WEIR__DATE_LENGTH];
    weir__date_format(now_s, now);
    struct weir__text digits = {now + 12, 4};
    int year = take_digits(&digits, 4);
    int full = year - year % 100 + 100 + two_digits;
    while (full > year + 50)
        full -= 100;
    return full;
}

bool weir__date_parse(struct weir__text text, int64_t now_s, int64_t *unix_s)
{
    struct fields fields = {0};
    if (take_pattern(text, "w, d-b-z h:n:s GMT", &fields))
        fields.year = full_year(fields.year, now_s);
    else if (!take_pattern(text, "a, d b y h:n:s GMT", &fields) &&
             !take_pattern(text, "a b e h:n:s y", &fields))
        return false;

    /* Second 60 is a leap second. */
    if (fields.year < 1 || fields.day < 1 ||
        fields.day > days_in_month(fields.year, fields.month) || fields.hour > 23 ||
        fields.minute > 59 || fields.second > 60)
        return false;

    int64_t days = days_before_year(fields.year) + days_before_month[fields.month] + fields.day - 1;
    if (fields.month > 1 && is_leap(fields.year))
        days++;
    *unix_s = days * DAY_S + fields.hour * 3600 + fields.minute * 60 + fields.second;
    return true;
}
