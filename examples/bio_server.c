/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A plain OpenSSL server, and the 30 lines that tell it when each answer arrived: those between >>> and <<<.
 * Without them it is what it was: SSL_accept, SSL_read, SSL_write.
 *
 *     cc bio_server.c -o bio_server $(pkg-config --cflags --libs weir-bio libssl)
 *     openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -subj /CN=localhost
 *     ./bio_server 7443 cert.pem key.pem 1000000
 *     curl -sk -o /dev/null https://127.0.0.1:7443/
 *
 * It answers each request with as many bytes as the last argument says, one connection at a time. Where
 * the kernel has TLS, OpenSSL hands it the sending, and nothing else changes. A server with an event loop
 * would not wait in arrived(): it would read stamps whenever poll says POLLERR.
 */

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

/* >>> delivery */
#include <poll.h>
#include <time.h>
#include <weir/bio.h>

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/* When the peer acknowledged what ends at `end`; 0 if it has not for 10 s. */
static uint64_t arrived(BIO *bio, uint64_t end)
{
    struct pollfd poller = {.fd = (int)BIO_get_fd(bio, NULL)};
    struct weir_bio_stamp stamp;
    do {
        while (weir_bio_read_stamps(bio, &stamp, 1) == 1)
            if (stamp.stage == WEIR_STAGE_DELIVERED && stamp.offset >= end)
                return stamp.at_ns;
    } while (poll(&poller, 1, 10000) == 1 && !(poller.revents & POLLHUP));
    return 0;
}
/* <<< */

/* Reads until a request's head ends; false if the peer has left. */
static bool read_request(SSL *ssl)
{
    char head[4096];
    size_t length = 0;

    while (length < sizeof(head) - 1) {
        int got = SSL_read(ssl, head + length, (int)(sizeof(head) - 1 - length));
        if (got <= 0)
            return false;
        length += (size_t)got;
        head[length] = '\0';
        if (strstr(head, "\r\n\r\n"))
            return true;
    }
    return false;
}

static void serve(SSL *ssl, const char *answer, int length)
{
    if (SSL_accept(ssl) != 1) {
        ERR_print_errors_fp(stderr);
        return;
    }
    while (read_request(ssl)) {
        /* >>> delivery */
        BIO *bio = SSL_get_wbio(ssl);
        uint64_t began_ns = now_ns();
        weir_bio_stamp_start(bio, (size_t)length);
        /* <<< */
        if (SSL_write(ssl, answer, length) != length)
            return;
        /* >>> delivery */
        uint64_t written_ns = now_ns();
        uint64_t at_ns = arrived(bio, weir_bio_stamp_stop(bio));
        printf("written after %" PRIu64 " us, arrived after %" PRId64 " us\n",
               (written_ns - began_ns) / 1000, at_ns ? (int64_t)(at_ns - began_ns) / 1000 : -1);
        /* <<< */
    }
    SSL_shutdown(ssl);
}

static char *make_answer(int body_length, int *length)
{
    char head[128];
    int head_length =
        snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", body_length);
    char *answer = malloc((size_t)head_length + (size_t)body_length);

    if (!answer)
        return NULL;
    memcpy(answer, head, (size_t)head_length);
    memset(answer + head_length, '.', (size_t)body_length);
    *length = head_length + body_length;
    return answer;
}

static int listen_at(int port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    int one = 1;

    if (listener < 0)
        return -1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(listener, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        listen(listener, 16) != 0) {
        close(listener);
        return -1;
    }
    return listener;
}

int main(int argument_count, char **arguments)
{
    if (argument_count != 5) {
        fprintf(stderr, "usage: bio_server PORT CERT KEY BYTES\n");
        return 2;
    }
    int length = 0;
    char *answer = make_answer(atoi(arguments[4]), &length);
    int listener = listen_at(atoi(arguments[1]));
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (!answer || listener < 0 || !context ||
        SSL_CTX_use_certificate_file(context, arguments[2], SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, arguments[3], SSL_FILETYPE_PEM) != 1) {
        perror("bio_server");
        ERR_print_errors_fp(stderr);
        return 1;
    }
    SSL_CTX_set_options(context, SSL_OP_ENABLE_KTLS);
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (;;) {
        int descriptor = accept(listener, NULL, NULL);
        /* >>> delivery: it was BIO_new_socket(descriptor, BIO_NOCLOSE) */
        BIO *bio = weir_bio_new(descriptor, NULL);
        /* <<< */
        SSL *ssl = SSL_new(context);
        if (bio && ssl) {
            SSL_set_bio(ssl, bio, bio);
            bio = NULL;
            serve(ssl, answer, length);
        }
        SSL_free(ssl);
        BIO_free(bio);
        close(descriptor);
    }
}
