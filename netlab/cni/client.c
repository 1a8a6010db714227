/* The executable of a CNI plugin where a resident process serves: netlab/cni/call.py in a language that starts at once.
 *
 * It hands its call to the resident process (`netlab cni serve`), as call.py does and describes. Whatever hinders that, and
 * is no answer, is left to the executable of the same plugin in Python, beside it, with .py to its name: what a plugin does
 * is written once. SOCKET and PROTOCOL are call.py's, given by the compiler's command line (netlab/cni/client.py).
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { DESCRIPTORS = 4, LONGEST_REQUEST = 1 << 16, DECLINED = 0xff, SERVER_DIED = 11 };

extern char **environ;

static char request[LONGEST_REQUEST];
static size_t length;

/* Append one field and its NUL; whether there was room. */
static int append(const char *text)
{
    size_t size = strlen(text) + 1;
    if (size > sizeof request - length)
        return 0;
    memcpy(request + length, text, size);
    length += size;
    return 1;
}

static int starts(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* A path that is another process's in the resident process. */
static int only_ours(const char *netns)
{
    return starts(netns, "/proc/self") || starts(netns, "/proc/thread-self");
}

/* request = PROTOCOL, mount namespace, plugin, variables, and an empty field; whether there was room. */
static int write_request(const char *plugin)
{
    char mounts[64] = "";
    if (readlink("/proc/self/ns/mnt", mounts, sizeof mounts - 1) < 0)
        return 0;
    int fits = append(PROTOCOL) && append(mounts) && append(plugin);
    for (char **variable = environ; fits && *variable; variable++) {
        if (starts(*variable, "CNI_NETNS=") && only_ours(strchr(*variable, '=') + 1))
            return 0;
        if (starts(*variable, "CNI_") || starts(*variable, "PATH="))
            fits = append(*variable);
    }
    return fits && append("");
}

/* Send the request with the standard streams and the network namespace; whether all of it has gone. */
static int send_request(int connection, int netns)
{
    union {
        char bytes[CMSG_SPACE(DESCRIPTORS * sizeof(int))];
        struct cmsghdr aligned;
    } control = {0};
    struct iovec data = {request, length};
    struct msghdr message = {
        .msg_iov = &data, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(DESCRIPTORS * sizeof(int));
    memcpy(CMSG_DATA(header), (int[DESCRIPTORS]){0, 1, 2, netns}, DESCRIPTORS * sizeof(int));
    ssize_t sent = sendmsg(connection, &message, MSG_NOSIGNAL);
    /* Half a request has no effect. */
    while (sent > 0 && (size_t)sent < length) {
        ssize_t more = send(connection, request + sent, length - sent, MSG_NOSIGNAL);
        sent = more > 0 ? sent + more : -1;
    }
    return sent > 0;
}

/* The exit status of the call, or -1 if it is to be done by the plugin in Python. */
static int ask_resident(const char *plugin)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = SOCKET};
    int connection = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    unsigned char status;
    /* 2 or less: in the place of a standard stream that is closed. */
    if (connection <= STDERR_FILENO || netns < 0 || !write_request(plugin) ||
        connect(connection, (struct sockaddr *)&address, sizeof address) < 0 || !send_request(connection, netns))
        return -1;
    if (recv(connection, &status, 1, 0) == 1)
        return status == DECLINED ? -1 : status;
    printf("{\"cniVersion\":\"1.1.0\",\"code\":%d,\"msg\":\"the resident CNI process ended during the call; try again\"}\n",
           SERVER_DIED);
    return 1;
}

int main(int argc, char **argv)
{
    (void)argc;
    char path[4096] = "";
    ssize_t end = readlink("/proc/self/exe", path, sizeof path - sizeof ".py");
    if (end < 0) {
        perror("/proc/self/exe");
        return 1;
    }
    int status = ask_resident(strrchr(path, '/') + 1);
    if (status >= 0)
        return status;
    strcpy(path + end, ".py");
    argv[0] = path;
    execv(path, argv);
    /* No runtime can go on without an error object (SPEC.md 1.1.0, section 5). */
    printf("{\"cniVersion\":\"1.1.0\",\"code\":100,\"msg\":\"%s cannot be executed: %m; install netlab again\"}\n", path);
    return 1;
}
