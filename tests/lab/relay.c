/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A long link on one host: two network namespaces of its own, a TUN device in each, and this
 * program carrying the packets between them, with delay, rate and loss. The namespaces have no name
 * and no owner but this process and what runs in them, so nothing is left behind however it ends.
 *
 * It says "ready SERVER_FD CLIENT_FD" (its descriptors of the namespaces, for /proc/PID/fd), then
 * takes one command in each line of its standard input, and ends with it: delay US      each packet
 * takes that long                (both directions) rate BITS     bits per second, 0 = no limit
 * (both directions) loss PPM      packets lost in a million                  (both directions) cut
 * WHICH     lose all packets to "server", "client" or "both", those on their way too join end the
 * cut stats         answer "stats TO_CLIENT TO_CLIENT_LOST TO_SERVER TO_SERVER_LOST" in packets All
 * but the last answer "ok".
 */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MTU_BYTES         1500
#define QUEUE_PACKETS_MAX 16384u /* 600 Mbit/s of full packets for 320 ms */
#define READ_PACKETS_MAX  64     /* from one side before the other has its turn */
#define LINE_BYTES_MAX    64
#define NS_PER_SECOND     1000000000u

struct packet {
    uint64_t due_ns;
    size_t length;
    uint8_t bytes[MTU_BYTES];
};

/* One way of the link: a queue in order of time, for every packet waits equally long. */
struct direction {
    int from, to;
    uint64_t free_ns; /* when the link has sent all that is queued */
    uint64_t random;
    bool cut;
    uint32_t loss_ppm;
    uint64_t carried, lost;
    uint32_t head, count;
    struct packet *queue;
};

struct link {
    uint64_t delay_ns, bits_per_second;
    struct direction to_client, to_server;
};

static void die(const char *what)
{
    fprintf(stderr, "relay: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t clock_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

/* xorshift64*: the same seed loses the same packets. */
static uint32_t random_ppm(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return (uint32_t)((*state * 0x2545F4914F6CDD1Du) >> 33) % 1000000u;
}

static void interface_up(int control, const char *name)
{
    struct ifreq request = {0};
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
    if (ioctl(control, SIOCGIFFLAGS, &request) < 0)
        die("SIOCGIFFLAGS");
    request.ifr_flags |= IFF_UP;
    if (ioctl(control, SIOCSIFFLAGS, &request) < 0)
        die("SIOCSIFFLAGS");
}

static void interface_set_ipv4(int control, const char *name, unsigned long what, const char *text)
{
    struct ifreq request = {0};
    struct sockaddr_in address = {.sin_family = AF_INET};
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
    if (inet_pton(AF_INET, text, &address.sin_addr) != 1)
        die(text);
    memcpy(&request.ifr_addr, &address, sizeof address);
    if (ioctl(control, what, &request) < 0)
        die("setting the address");
}

/* A setting that an older kernel, or one without IPv6, may lack. */
static void setting_write(const char *path, const char *value)
{
    int file = open(path, O_WRONLY | O_CLOEXEC);
    if (file < 0)
        return;
    if (write(file, value, strlen(value)) < 0)
        die(path);
    close(file);
}

/* Moves this process to a new namespace with one TUN device. Returns the device. */
static int side_open(const char *address, int *namespace)
{
    if (unshare(CLONE_NEWNET) < 0)
        die("a new network namespace");
    *namespace = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (*namespace < 0)
        die("/proc/self/ns/net");
    /* Packets that nobody asked for would shift the seeded loss. */
    setting_write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1");
    setting_write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    /* Each connection starts afresh, not with what the kernel learned from the one before. */
    setting_write("/proc/sys/net/ipv4/tcp_no_metrics_save", "1");

    int device = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (device < 0)
        die("/dev/net/tun");
    struct ifreq request = {.ifr_name = "link", .ifr_flags = IFF_TUN | IFF_NO_PI};
    if (ioctl(device, TUNSETIFF, &request) < 0)
        die("TUNSETIFF");
    int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (control < 0)
        die("socket");
    interface_set_ipv4(control, "link", SIOCSIFADDR, address);
    interface_set_ipv4(control, "link", SIOCSIFNETMASK, "255.255.255.0");
    interface_up(control, "link");
    interface_up(control, "lo");
    close(control);
    return device;
}

static void direction_init(struct direction *direction, int from, int to)
{
    *direction = (struct direction){.from = from, .to = to};
    direction->queue = calloc(QUEUE_PACKETS_MAX, sizeof *direction->queue);
    if (!direction->queue)
        die("memory");
}

/* Takes one packet off the sender's device. Returns false when there is none. */
static bool packet_take(struct link *link, struct direction *direction)
{
    uint8_t overflow[MTU_BYTES];
    bool full = direction->count == QUEUE_PACKETS_MAX;
    uint32_t tail = (direction->head + direction->count) % QUEUE_PACKETS_MAX;
    struct packet *packet = &direction->queue[tail];
    ssize_t length = read(direction->from, full ? overflow : packet->bytes, MTU_BYTES);
    if (length <= 0)
        return false;
    uint64_t now_ns = clock_now_ns();
    bool unlucky = direction->loss_ppm && random_ppm(&direction->random) < direction->loss_ppm;
    if (full || direction->cut || unlucky) {
        direction->lost++;
        return true;
    }
    uint64_t start_ns = direction->free_ns > now_ns ? direction->free_ns : now_ns;
    uint64_t sending_ns = 0;
    if (link->bits_per_second)
        sending_ns = (uint64_t)length * 8 * NS_PER_SECOND / link->bits_per_second;
    direction->free_ns = start_ns + sending_ns;
    packet->due_ns = direction->free_ns + link->delay_ns;
    packet->length = (size_t)length;
    direction->count++;
    return true;
}

static void packets_take(struct link *link, struct direction *direction)
{
    for (int i = 0; i < READ_PACKETS_MAX && packet_take(link, direction); i++)
        continue;
}

/* Hands over all packets that are due. */
static void packets_deliver(struct direction *direction, uint64_t now_ns)
{
    while (direction->count && direction->queue[direction->head].due_ns <= now_ns) {
        const struct packet *packet = &direction->queue[direction->head];
        if (write(direction->to, packet->bytes, packet->length) == (ssize_t)packet->length)
            direction->carried++;
        else
            direction->lost++;
        direction->head = (direction->head + 1) % QUEUE_PACKETS_MAX;
        direction->count--;
    }
}

static void direction_cut(struct direction *direction)
{
    direction->cut = true;
    direction->lost += direction->count;
    direction->count = 0;
    direction->free_ns = 0;
}

static void command_run(struct link *link, const char *line)
{
    char name[LINE_BYTES_MAX], which[LINE_BYTES_MAX] = "";
    if (sscanf(line, "%63s %63s", name, which) < 1)
        return;
    uint64_t number = strtoull(which, NULL, 10);
    if (strcmp(name, "delay") == 0) {
        link->delay_ns = number * 1000;
    } else if (strcmp(name, "rate") == 0) {
        link->bits_per_second = number;
    } else if (strcmp(name, "loss") == 0) {
        link->to_client.loss_ppm = (uint32_t)number;
    } else if (strcmp(name, "cut") == 0) {
        if (strcmp(which, "server") != 0)
            direction_cut(&link->to_client);
        if (strcmp(which, "client") != 0)
            direction_cut(&link->to_server);
    } else if (strcmp(name, "join") == 0) {
        link->to_client.cut = link->to_server.cut = false;
    } else if (strcmp(name, "stats") == 0) {
        printf("stats %ju %ju %ju %ju\n", (uintmax_t)link->to_client.carried,
               (uintmax_t)link->to_client.lost, (uintmax_t)link->to_server.carried,
               (uintmax_t)link->to_server.lost);
        return;
    } else {
        printf("unknown command: %s\n", name);
        return;
    }
    puts("ok");
}

/* Reads commands. Returns false at the end of the input: whoever made the link is gone. */
static bool commands_read(struct link *link)
{
    static char line[LINE_BYTES_MAX];
    static size_t length;
    ssize_t count = read(STDIN_FILENO, line + length, sizeof line - 1 - length);
    if (count <= 0)
        return false;
    length += (size_t)count;
    line[length] = '\0';
    char *start = line;
    for (char *end = strchr(start, '\n'); end; end = strchr(start, '\n')) {
        *end = '\0';
        command_run(link, start);
        start = end + 1;
    }
    length = strlen(start);
    memmove(line, start, length);
    return length < sizeof line - 1;
}

/* How long to sleep. Returns NULL when no packet is on its way. */
static const struct timespec *wait_until_due(const struct link *link, struct timespec *wait)
{
    uint64_t due_ns = UINT64_MAX, now_ns = clock_now_ns();
    const struct direction *both[] = {&link->to_client, &link->to_server};
    for (int i = 0; i < 2; i++)
        if (both[i]->count && both[i]->queue[both[i]->head].due_ns < due_ns)
            due_ns = both[i]->queue[both[i]->head].due_ns;
    if (due_ns == UINT64_MAX)
        return NULL;
    uint64_t wait_ns = due_ns > now_ns ? due_ns - now_ns : 0;
    wait->tv_sec = (time_t)(wait_ns / NS_PER_SECOND);
    wait->tv_nsec = (long)(wait_ns % NS_PER_SECOND);
    return wait;
}

static void relay(struct link *link)
{
    struct pollfd waits[] = {{.fd = STDIN_FILENO, .events = POLLIN},
                             {.fd = link->to_client.from, .events = POLLIN},
                             {.fd = link->to_server.from, .events = POLLIN}};
    for (;;) {
        struct timespec wait;
        if (ppoll(waits, 3, wait_until_due(link, &wait), NULL) < 0 && errno != EINTR)
            die("ppoll");
        packets_deliver(&link->to_client, clock_now_ns());
        packets_deliver(&link->to_server, clock_now_ns());
        if (waits[0].revents && !commands_read(link))
            return;
        if (waits[1].revents)
            packets_take(link, &link->to_client);
        if (waits[2].revents)
            packets_take(link, &link->to_server);
    }
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: relay SERVER_ADDRESS CLIENT_ADDRESS SEED\n");
        return 2;
    }
    /* On time even when both processors are busy; without the right to it, just less exact. */
    struct sched_param priority = {.sched_priority = 1};
    sched_setscheduler(0, SCHED_FIFO, &priority);
    prctl(PR_SET_TIMERSLACK, 1);

    int server_namespace, client_namespace;
    int server = side_open(argv[1], &server_namespace);
    int client = side_open(argv[2], &client_namespace);
    struct link link = {0};
    direction_init(&link.to_client, server, client);
    direction_init(&link.to_server, client, server);
    /* Small seeds are spread over all bits; xorshift never leaves 0. */
    link.to_client.random = (strtoull(argv[3], NULL, 10) * 0x9E3779B97F4A7C15u) | 1;
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("ready %d %d\n", server_namespace, client_namespace);
    relay(&link);
    return 0;
}
