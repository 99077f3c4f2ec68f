/* Looks into every process that appears: what its descriptors are, and whether it lets itself be traced while it
   is still the runtime. */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

/* A process that runs the container's own program may be traced: it is let go for good. */
static char judged[1 << 22];

static void look(int pid) {
    if (judged[pid & (sizeof judged - 1)]) return;
    char path[64], target[4096];
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    DIR *directory = opendir(path);
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        ssize_t length = readlinkat(dirfd(directory), entry->d_name, target, sizeof target - 1);
        if (length <= 0) continue;
        target[length] = 0;
        if (strncmp(target, "pipe:", 5) && strncmp(target, "/dev/", 5) && strncmp(target, "/proc", 5)
            && strncmp(target, "socket:", 7) && strncmp(target, "anon_inode:", 11) && strcmp(target, "/said"))
            printf("descriptor %s of %d is %s\n", entry->d_name, pid, target);
    }
    if (directory) closedir(directory);
    if (ptrace(PTRACE_ATTACH, pid, 0, 0)) return;
    waitpid(pid, 0, __WALL);
    snprintf(path, sizeof path, "/proc/%d/exe", pid);
    ssize_t length = readlink(path, target, sizeof target - 1);
    target[length < 0 ? 0 : length] = 0;
    judged[pid & (sizeof judged - 1)] = 1;
    /* One that has just ended has no program any more. */
    if (length < 0 ? errno == EACCES : !strstr(target, "busybox")) printf("traced %d, which is %s\n", pid, target);
    ptrace(PTRACE_DETACH, pid, 0, 0);
    kill(pid, SIGCONT);
}

int main(void) {
    puts("spying");
    for (;;) {
        fflush(stdout);
        DIR *all = opendir("/proc");
        for (struct dirent *entry; all && (entry = readdir(all));) {
            int pid = atoi(entry->d_name);
            if (pid > 1) look(pid);
        }
        if (all) closedir(all);
        while (waitpid(-1, 0, WNOHANG) > 0);
    }
}
