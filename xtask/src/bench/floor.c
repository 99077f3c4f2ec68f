// The floor: what a container costs when one C program asks the kernel for it and does nothing else. No file is read,
// nothing is parsed, checked, recorded or undone; what it makes is what the runtimes beside it make.
//
//   floor create|run|start|delete FOLDER      FOLDER/rootfs; FOLDER/floor has what is made, a line each
//   floor exec FOLDER
//
// The lines: `group DIRECTORY`, `write FILE VALUE`, `bind SOURCE DESTINATION`, `user` (a user namespace), `filter FILE` (BPF instructions),
// `args PROGRAM ARGUMENT…`.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/filter.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOST 128
static char *groups[MOST], *binds[MOST][2], *writes[MOST][2], *filter;
static int group_count, bind_count, write_count, user, tasks[MOST], unified = -1, proc_empty = -1;
static char where[4096], *folder, *args[8];
static struct sock_filter code[4096];
static struct sock_fprog program = {0, code};

static void must(long result, const char *what) {
    if (result < 0) {
        fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
        _exit(1);
    }
}

static char *in(const char *name) {
    snprintf(where, sizeof where, "%s/%s", folder, name);
    return where;
}

static void read_list(void) {
    static char text[1 << 17];
    int fd = open(in("floor"), O_RDONLY | O_CLOEXEC);
    must(fd, "open the list");
    must(read(fd, text, sizeof text - 1), "read the list");
    close(fd);
    for (char *rest = text, *line; (line = strsep(&rest, "\n"));) {
        char *kind = strsep(&line, " ");
        if (!strcmp(kind, "group")) groups[group_count++] = line;
        if (!strcmp(kind, "user")) user = 1;
        if (!strcmp(kind, "filter")) filter = line;
        if (!strcmp(kind, "args"))
            for (int i = 0; i < 7 && line; i++) args[i] = strsep(&line, " ");
        if (!strcmp(kind, "bind")) {
            binds[bind_count][0] = strsep(&line, " ");
            binds[bind_count++][1] = line;
        }
        if (!strcmp(kind, "write")) {
            writes[write_count][0] = strsep(&line, " ");
            writes[write_count++][1] = line;
        }
    }
}

static int place(int root, const char *path) {
    struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
    int fd = syscall(SYS_openat2, root, path, &how, sizeof how);
    return fd;
}

static int tree(int at, const char *path, unsigned flags) {
    int fd = syscall(SYS_open_tree, at, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | flags);
    must(fd, path);
    return fd;
}

static void attach(int mount, int at) {
    must(syscall(SYS_move_mount, mount, "", at, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH), "move_mount");
}

static void readonly(int mount, unsigned flags) {
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
    must(syscall(SYS_mount_setattr, mount, "", AT_EMPTY_PATH | flags, &attr, sizeof attr), "mount_setattr");
}

static int file_system(const char *kind, const char *words, unsigned attributes) {
    int context = syscall(SYS_fsopen, kind, FSOPEN_CLOEXEC);
    must(context, kind);
    must(syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, "source", kind, 0), "source");
    char copy[256], *rest = copy, *word;
    strcpy(copy, words);
    while ((word = strsep(&rest, ",")) && *word) {
        char *value = word, *key = strsep(&value, "=");
        int how = value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG;
        must(syscall(SYS_fsconfig, context, how, key, value, 0), key);
    }
    must(syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0), "create");
    int mount = syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, attributes);
    must(mount, "fsmount");
    close(context);
    return mount;
}

#define HARD (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)

static void mount_at(int root, const char *path, const char *kind, const char *words, unsigned attributes) {
    int at = place(root, path), mount = file_system(kind, words, attributes);
    must(at, path);
    attach(mount, at);
    close(mount);
    close(at);
}

static void mount_groups(int root) {
    int at = place(root, "sys/fs/cgroup");
    must(at, "sys/fs/cgroup");
    int list = file_system("tmpfs", "mode=755", HARD);
    attach(list, at);
    for (int i = 0; i < group_count; i++) {
        char *name = strrchr(groups[i], '/') + 1;
        char number[16];
        sprintf(number, "%d", i);
        must(mkdirat(list, number, 0755), name);
        int under = openat(list, number, O_PATH | O_CLOEXEC);
        int mount = tree(AT_FDCWD, groups[i], 0);
        readonly(mount, 0);
        attach(mount, under);
        close(mount);
        close(under);
    }
    readonly(list, 0);
    close(list);
    close(at);
}

static void devices(int root) {
    static const struct { const char *path; int major, minor; } all[] = {
        {"dev/null", 1, 3}, {"dev/zero", 1, 5}, {"dev/full", 1, 7},
        {"dev/random", 1, 8}, {"dev/urandom", 1, 9}, {"dev/tty", 5, 0}};
    static const char *links[][2] = {{"/proc/self/fd", "dev/fd"}, {"/proc/self/fd/0", "dev/stdin"},
        {"/proc/self/fd/1", "dev/stdout"}, {"/proc/self/fd/2", "dev/stderr"}, {"pts/ptmx", "dev/ptmx"}};
    int dev = place(root, "dev");
    for (int i = 0; i < 6; i++) {
        const char *name = all[i].path + 4;
        if (!user) {
            must(mknodat(dev, name, S_IFCHR | 0666, makedev(all[i].major, all[i].minor)), name);
            continue;
        }
        char host[32];
        snprintf(host, sizeof host, "/%s", all[i].path);
        int file = openat(dev, name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
        int mount = tree(AT_FDCWD, host, 0);
        attach(mount, place(root, all[i].path));
        close(mount);
        close(file);
    }
    for (int i = 0; i < 5; i++) must(symlinkat(links[i][0], dev, links[i][1] + 4), "symlink");
    close(dev);
}

static void hide(int root) {
    static const char *masked[] = {"proc/acpi", "proc/asound", "proc/interrupts", "proc/kcore", "proc/keys",
        "proc/latency_stats", "proc/timer_list", "proc/timer_stats", "proc/sched_debug", "proc/scsi", "sys/firmware",
        "sys/devices/virtual/powercap"};
    static const char *protected[] = {"proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"};
    for (unsigned i = 0; i < sizeof protected / sizeof *protected; i++) {
        int at = place(root, protected[i]);
        if (at < 0) continue;
        int mount = tree(at, "", AT_EMPTY_PATH | AT_RECURSIVE);
        readonly(mount, AT_RECURSIVE);
        attach(mount, at);
        close(mount);
        close(at);
    }
    for (unsigned i = 0; i < sizeof masked / sizeof *masked; i++) {
        struct stat found;
        int at = place(root, masked[i]), mount;
        if (at < 0) continue;
        must(fstat(at, &found), masked[i]);
        if (!S_ISDIR(found.st_mode)) mount = tree(AT_FDCWD, "/dev/null", 0);
        else if (proc_empty < 0) mount = proc_empty = file_system("tmpfs", "mode=755", MOUNT_ATTR_RDONLY | HARD);
        else mount = tree(proc_empty, "", AT_EMPTY_PATH);
        attach(mount, at);
        if (mount != proc_empty) close(mount);
        close(at);
    }
}

static int world(void) {
    int host = open("/", O_PATH | O_CLOEXEC);
    struct mount_attr slave = {.propagation = 1 << 19};
    must(syscall(SYS_mount_setattr, host, "", AT_EMPTY_PATH | AT_RECURSIVE, &slave, sizeof slave), "slave");
    int at = open(in("rootfs"), O_PATH | O_DIRECTORY | O_CLOEXEC);
    int root = tree(at, "", AT_EMPTY_PATH | AT_RECURSIVE);
    attach(root, at);
    mount_at(root, "proc", "proc", "", HARD);
    mount_at(root, "dev", "tmpfs", "mode=755,size=65536k", MOUNT_ATTR_NOSUID | MOUNT_ATTR_STRICTATIME);
    int dev = place(root, "dev");
    must(mkdirat(dev, "pts", 0755), "pts");
    must(mkdirat(dev, "mqueue", 0755), "mqueue");
    must(mkdirat(dev, "shm", 0755), "shm");
    close(dev);
    mount_at(root, "dev/pts", "devpts", "newinstance,ptmxmode=0666,mode=0620", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
    mount_at(root, "sys", "sysfs", "", HARD | MOUNT_ATTR_RDONLY);
    mount_groups(root);
    mount_at(root, "dev/mqueue", "mqueue", "", HARD);
    mount_at(root, "dev/shm", "tmpfs", "mode=1777,size=65536k", HARD);
    for (int i = 0; i < bind_count; i++) {
        int under = place(root, binds[i][1] + 1), mount = tree(AT_FDCWD, binds[i][0], AT_RECURSIVE);
        must(under, binds[i][1]);
        attach(mount, under);
        close(mount);
        close(under);
    }
    devices(root);
    hide(root);
    return root;
}

static void identity(void) {
    static const int kept[] = {0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31};
    unsigned long bits = 0;
    for (unsigned i = 0; i < sizeof kept / sizeof *kept; i++) bits |= 1UL << kept[i];
    for (int i = 0; i < 41; i++)
        if (!(bits >> i & 1)) must(prctl(PR_CAPBSET_DROP, i, 0, 0, 0), "bounding set");
    must(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0), "keep capabilities");
    syscall(SYS_setgroups, 0, NULL);
    must(syscall(SYS_setresgid, 0, 0, 0), "gid");
    must(syscall(SYS_setresuid, 0, 0, 0), "uid");
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{bits, bits, 0}, {bits >> 32, bits >> 32, 0}};
    must(syscall(SYS_capset, &header, data), "capset");
}

static void read_filter(void) {
    int fd = open(filter, O_RDONLY | O_CLOEXEC);
    must(fd, filter);
    long size = read(fd, code, sizeof code);
    must(size, filter);
    close(fd);
    program.len = size / sizeof *code;
}

static void load(void) {
    if (program.len) must(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program), "seccomp");
}

static void enter(void) {
    for (int i = 0; i < group_count; i++)
        if (tasks[i] >= 0) must(write(tasks[i], "0", 1), groups[i]);
}

static void become(char **args) {
    char *env[] = {"PATH=/bin", NULL};
    must(syscall(SYS_close_range, 3, ~0U, CLOSE_RANGE_CLOEXEC), "close_range");
    for (int i = 1; i <= 64; i++) signal(i, SIG_DFL);
    execve(args[0], args, env);
    must(-1, "exec");
}

static struct sockaddr_un address(void) {
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    snprintf(name.sun_path, sizeof name.sun_path, "%s/floor.sock", folder);
    return name;
}

static void child(int channel, int listener) {
    char word;
    must(prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0), "pdeathsig");
    umask(0);
    enter();
    if (user) {
        must(write(channel, "m", 1), "ask");
        must(read(channel, &word, 1), "maps");
        syscall(SYS_setgroups, 0, NULL);
        must(syscall(SYS_setresgid, 0, 0, 0), "gid");
        must(syscall(SYS_setresuid, 0, 0, 0), "uid");
    }
    must(unshare(CLONE_NEWCGROUP), "cgroup namespace");
    must(setsid(), "setsid");
    syscall(SYS_keyctl, 1, NULL);
    struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    int socket_ = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    must(ioctl(socket_, SIOCSIFFLAGS, &lo), "lo");
    close(socket_);
    must(sethostname("ship", 4), "hostname");
    int root = world();
    must(fchdir(root), "fchdir");
    must(syscall(SYS_pivot_root, ".", "."), "pivot_root");
    must(syscall(SYS_umount2, ".", 2), "umount");
    must(chdir("/"), "chdir");
    identity();
    must(prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0), "pdeathsig");
    must(write(channel, "r", 1), "ready");
    if (listener >= 0) {
        int connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        must(write(connection, "s", 1), "start");
        close(channel);
    } else {
        must(read(channel, &word, 1), "start");
    }
    load();
    become(args);
}

static void write_file(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    must(fd, path);
    must(write(fd, text, strlen(text)), path);
    close(fd);
}

static pid_t begin(int *channel, int listener) {
    int pair[2];
    char word;
    for (int i = 0; i < group_count; i++) {
        char path[4200];
        must(mkdir(groups[i], 0755), groups[i]);
        snprintf(path, sizeof path, "%s/cpuset.cpus", groups[i]);
        if (access(path, F_OK) == 0) {
            // As its neighbours above have it; a v1 group begins empty.
            write_file(path, "0");
            snprintf(path, sizeof path, "%s/cpuset.mems", groups[i]);
            write_file(path, "0");
        }
        snprintf(path, sizeof path, "%s/tasks", groups[i]);
        tasks[i] = open(path, O_WRONLY | O_CLOEXEC);
        if (tasks[i] < 0) unified = open(groups[i], O_PATH | O_CLOEXEC);
    }
    for (int i = 0; i < write_count; i++) write_file(writes[i][0], writes[i][1]);
    must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), "socketpair");
    int pidfd;
    struct clone_args how = {.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS |
                                       CLONE_PIDFD | (user ? CLONE_NEWUSER : 0) | (unified >= 0 ? CLONE_INTO_CGROUP : 0),
        .exit_signal = SIGCHLD, .pidfd = (unsigned long)&pidfd, .cgroup = unified >= 0 ? unified : 0};
    pid_t pid = syscall(SYS_clone3, &how, sizeof how);
    must(pid, "clone3");
    if (pid == 0) {
        close(pair[0]);
        child(pair[1], listener);
    }
    close(pair[1]);
    while (must(read(pair[0], &word, 1), "the child"), word == 'm') {
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/uid_map", pid);
        write_file(path, "0 100000 65536");
        snprintf(path, sizeof path, "/proc/%d/gid_map", pid);
        write_file(path, "0 100000 65536");
        must(write(pair[0], "g", 1), "go on");
    }
    *channel = pair[0];
    char text[16];
    snprintf(text, sizeof text, "%d", pid);
    write_file(in("floor.pid"), text);
    return pid;
}

static void forget(void) {
    for (int i = 0; i < group_count; i++) must(rmdir(groups[i]), groups[i]);
    unlink(in("floor.pid"));
    unlink(in("floor.sock"));
}

static void add(void) {
    char text[16] = {0};
    int fd = open(in("floor.pid"), O_RDONLY | O_CLOEXEC), status;
    must(read(fd, text, 15), "pid");
    int pidfd = syscall(SYS_pidfd_open, atoi(text), 0);
    must(pidfd, "pidfd_open");
    for (int i = 0; i < group_count; i++) {
        char path[4200];
        snprintf(path, sizeof path, "%s/tasks", groups[i]);
        tasks[i] = open(path, O_WRONLY | O_CLOEXEC);
        if (tasks[i] < 0) unified = open(groups[i], O_PATH | O_CLOEXEC);
    }
    must(syscall(SYS_setns, pidfd, CLONE_NEWPID), "pid namespace");
    struct clone_args how = {.flags = unified >= 0 ? CLONE_INTO_CGROUP : 0, .exit_signal = SIGCHLD,
        .cgroup = unified >= 0 ? unified : 0};
    pid_t pid = syscall(SYS_clone3, &how, sizeof how);
    must(pid, "clone3");
    if (pid == 0) {
        enter();
        must(syscall(SYS_setns, pidfd, CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP |
                     (user ? CLONE_NEWUSER : 0)), "namespaces");
        must(setsid(), "setsid");
        identity();
        load();
        become((char *[]){"/bin/true", NULL});
    }
    must(waitpid(pid, &status, 0), "wait");
}

int main(int count, char **words) {
    if (count != 3) return 2;
    folder = words[2];
    read_list();
    // `start` and `delete` have no use for it.
    if (filter && strcmp(words[1], "start") && strcmp(words[1], "delete")) read_filter();
    int channel, status;
    struct sockaddr_un name = address();
    if (!strcmp(words[1], "run")) {
        pid_t pid = begin(&channel, -1);
        must(write(channel, "s", 1), "start");
        must(waitpid(pid, &status, 0), "wait");
        forget();
    } else if (!strcmp(words[1], "create")) {
        int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        must(bind(listener, (struct sockaddr *)&name, sizeof name), "bind");
        must(listen(listener, 1), "listen");
        begin(&channel, listener);
    } else if (!strcmp(words[1], "start")) {
        char word;
        int connection = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        must(connect(connection, (struct sockaddr *)&name, sizeof name), "connect");
        must(read(connection, &word, 1), "start");
        // Closed by the exec.
        must(read(connection, &word, 1), "exec");
    } else if (!strcmp(words[1], "delete")) {
        forget();
    } else if (!strcmp(words[1], "exec")) {
        add();
    } else {
        return 2;
    }
    return 0;
}
