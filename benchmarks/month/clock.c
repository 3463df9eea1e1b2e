/* The wall clock of the processes that load this (LD_PRELOAD): the system's and an offset, in microseconds, that they
   read from a mapped file. The benchmark moves the offset on. CLOCK_MONOTONIC and with it every pause stays real. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *shared;
static int (*system_gettime)(clockid_t, struct timespec *);
static int (*system_timedwait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);

__attribute__((constructor)) static void start(void) {
    system_gettime = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    system_timedwait = (int (*)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *))dlsym(
        RTLD_NEXT, "pthread_cond_timedwait");
    const char *path = getenv("BENCHMARK_CLOCK_OFFSET");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *memory = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (memory != MAP_FAILED) shared = memory;
}

static void move(struct timespec *time, int64_t microseconds) {
    int64_t nanoseconds = time->tv_nsec + microseconds % 1000000 * 1000;
    time->tv_sec += microseconds / 1000000;
    if (nanoseconds < 0) time->tv_sec -= 1, nanoseconds += 1000000000;
    if (nanoseconds >= 1000000000) time->tv_sec += 1, nanoseconds -= 1000000000;
    time->tv_nsec = nanoseconds;
}

int clock_gettime(clockid_t id, struct timespec *time) {
    if (!system_gettime) start();
    int failed = system_gettime(id, time);
    if (!failed && shared && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) move(time, *shared);
    return failed;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *result) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (result) *result = now.tv_sec;
    return now.tv_sec;
}

/* A deadline by the wall clock, and not one by the monotonic clock (seconds since the boot), is the kernel's again. */
int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict deadline) {
    struct timespec wanted = *deadline, now, boot;
    if (shared) {
        clock_gettime(CLOCK_REALTIME, &now);
        system_gettime(CLOCK_MONOTONIC, &boot);
        if (llabs((long long)wanted.tv_sec - now.tv_sec) < llabs((long long)wanted.tv_sec - boot.tv_sec))
            move(&wanted, -*shared);
    }
    return system_timedwait(condition, mutex, &wanted);
}
