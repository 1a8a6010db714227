/* The executable of a CNI plugin in a language that starts at once: netlab/cni/plugins/call.py in C.
 *
 * It hands its call to the resident process (`netlab cni serve`, or the agent that an earlier call has left behind), as
 * call.py does and describes. Whatever hinders that, and is no answer, is left to the executable of the same plugin in
 * Python, beside it, with .py to its name: what a plugin does is written once. SOCKET and PROTOCOL are call.py's, given
 * by the compiler's command line (netlab/cni/installation/client.py).
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
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

/* A connection to a process of this user, or root's; -1 if there is none. */
static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct ucred peer = {0};
    socklen_t size = sizeof peer;
    /* Without a path it would be an abstract address. */
    int connection = *path ? socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0) : -1;
    if (connection < 0)
        return -1;
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    /* 2 or less: in the place of a standard stream that is closed. */
    if (connection > STDERR_FILENO && connect(connection, (struct sockaddr *)&address, sizeof address) == 0 &&
        getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && (peer.uid == 0 || peer.uid == geteuid()))
        return connection;
    close(connection);
    return -1;
}

/* Where the agent of the plugins in a folder serves: agent_socket() of call.py. */
static const char *agent_socket(const char *folder)
{
    static char path[64];
    struct stat found;
    if (stat(folder, &found) < 0)
        return "";
    snprintf(path, sizeof path, "/run/netlab/cni-%jx-%jx.sock", (uintmax_t)found.st_dev, (uintmax_t)found.st_ino);
    return path;
}

/* The exit status of the call, or -1 if it is to be done by the plugin in Python. */
static int ask_resident(const char *folder, const char *plugin)
{
    int connection = connect_to(SOCKET);
    unsigned char status;
    if (connection < 0)
        connection = connect_to(agent_socket(folder));
    if (connection < 0)
        return -1;
    int netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (netns < 0 || !write_request(plugin) || !send_request(connection, netns))
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
    char *slash = strrchr(path, '/');
    *slash = '\0';
    int status = ask_resident(path, slash + 1);
    if (status >= 0)
        return status;
    *slash = '/';
    strcpy(path + end, ".py");
    argv[0] = path;
    execv(path, argv);
    /* No runtime can go on without an error object (SPEC.md 1.1.0, section 5). */
    printf("{\"cniVersion\":\"1.1.0\",\"code\":100,\"msg\":\"%s cannot be executed: %m; install netlab again\"}\n", path);
    return 1;
}
