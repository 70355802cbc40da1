/* The clock of a process under test: ahead of the machine's by the seconds that the file of CLOCK_OF_TESTS has just now. It is loaded before
   the C library (LD_PRELOAD); what that process starts has the machine's own clock. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static char path[4096];

__attribute__((constructor)) static void begin(void) {
    const char *given = getenv("CLOCK_OF_TESTS");
    if (given != NULL && strlen(given) < sizeof path) strcpy(path, given);
    unsetenv("LD_PRELOAD");
}

static long long ahead(void) {
    char text[32] = "";
    int before = errno, file = open(path, O_RDONLY | O_CLOEXEC);
    if (file >= 0) {
        if (read(file, text, sizeof text - 1) < 0) text[0] = '\0';
        close(file);
    }
    errno = before;
    return atoll(text);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int done = (int)syscall(SYS_clock_gettime, clock, now);
    if (done == 0 && clock == CLOCK_REALTIME && path[0] != '\0') now->tv_sec += ahead();
    return done;
}
