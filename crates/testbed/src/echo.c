/* The one program of an image without a shell: waits, or echoes.
 *
 *     echo         wait for SIGTERM
 *     echo PORT    and send back whatever comes by TCP or UDP to that port, over IPv4 and IPv6
 *
 * It is PID 1 of its container: so it has to have a handler for SIGTERM, or none would arrive.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static void leave(int signal) { (void)signal; _exit(0); }

static int open_socket(int type, int port)
{
    struct sockaddr_in6 any6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
    struct sockaddr_in any4 = { .sin_family = AF_INET, .sin_port = htons(port) };
    int off = 0, on = 1, fd = socket(AF_INET6, type, 0);

    if (fd >= 0) {
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (bind(fd, (struct sockaddr *)&any6, sizeof any6) == 0)
            return fd;
        close(fd);
    }
    /* A kernel or a container without IPv6. */
    fd = socket(AF_INET, type, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (fd < 0 || bind(fd, (struct sockaddr *)&any4, sizeof any4) != 0)
        _exit(1);
    return fd;
}

int main(int argc, char **argv)
{
    signal(SIGTERM, leave);
    signal(SIGINT, leave);
    signal(SIGCHLD, SIG_IGN);
    if (argc < 2)
        for (;;)
            pause();

    int udp = open_socket(SOCK_DGRAM, atoi(argv[1])), tcp = open_socket(SOCK_STREAM, atoi(argv[1]));
    struct pollfd both[2] = { { .fd = udp, .events = POLLIN }, { .fd = tcp, .events = POLLIN } };
    static char bytes[65536];

    if (listen(tcp, 64) != 0)
        return 1;
    for (;;) {
        if (poll(both, 2, -1) < 0)
            continue;
        if (both[0].revents) {
            struct sockaddr_in6 from;
            socklen_t length = sizeof from;
            ssize_t n = recvfrom(udp, bytes, sizeof bytes, 0, (struct sockaddr *)&from, &length);
            if (n >= 0)
                sendto(udp, bytes, n, 0, (struct sockaddr *)&from, length);
        }
        if (both[1].revents) {
            int client = accept(tcp, NULL, NULL);
            if (client >= 0 && fork() == 0) {
                ssize_t n;
                while ((n = read(client, bytes, sizeof bytes)) > 0)
                    for (ssize_t sent = 0, k; sent < n; sent += k)
                        if ((k = write(client, bytes + sent, n - sent)) <= 0)
                            _exit(0);
                _exit(0);
            }
            close(client);
        }
    }
}
