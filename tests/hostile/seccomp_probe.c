/* Tries system calls, each in a child of its own, and prints what became of it. Runs inside the sandbox.

   Reads /inputs/calls.txt, in each line how, number and six arguments; how is n (native), b (blocks for good), f (may
   return twice), v (vfork) or i (the 32-bit entry). Prints for each "ok", "error N", "signal N" or "exit". */

#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef __x86_64__
/* int f(int number, int argument): push rbx; push rbp; mov eax, edi; mov ebx, ecx, edx, esi, edi, ebp; int 0x80 */
static const unsigned char int80[] = {0x53, 0x55, 0x89, 0xf8, 0x89, 0xf3, 0x89, 0xf1, 0x89, 0xf2, 0x89,
                                      0xf7, 0x89, 0xf5, 0xcd, 0x80, 0x5d, 0x5b, 0xc3};
/* vfork's child has its parent's stack and must not return: mov eax, 58; syscall; if child: exit(0); ret */
static const unsigned char vforked[] = {0xb8, 0x3a, 0, 0,    0,    0x0f, 0x05, 0x85, 0xc0, 0x75, 0x09, 0xb8,
                                        0x3c, 0,    0, 0, 0x31, 0xff, 0x0f, 0x05, 0xc3};

static long machine_code(const unsigned char *code, size_t size, long number, long argument) {
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) abort();
    memcpy(page, code, size);
    int result = ((int (*)(long, long))page)(number, argument);
    errno = result < 0 ? -result : 0;
    return result < 0 && result > -4096 ? -1 : result;
}
#endif

static long call(char how, long number, long *a) {
#ifdef __x86_64__
    if (how == 'i') return machine_code(int80, sizeof int80, number, a[0]);
    if (how == 'v') return machine_code(vforked, sizeof vforked, 0, 0);
#endif
    long result = syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (result == 0 && how == 'f') _exit(0);
    return result;
}

/* Has a grandchild execute this program; its exit code. */
static int deep(void) {
    int status = 1;
    if (fork() == 0) {
        setsid();
        if (vfork() == 0) {
            execl("/proc/self/exe", "probe", NULL);
            _exit(1);
        }
        wait(&status);
        _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
    }
    wait(&status);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int main(int count, char **arguments) {
    if (count > 1 && !strcmp(arguments[1], "deep")) return deep();
    FILE *calls = fopen("/inputs/calls.txt", "r");
    char how;
    long number, a[6];
    if (!calls) return 1;
    while (fscanf(calls, " %c %ld %ld %ld %ld %ld %ld %ld", &how, &number, a, a + 1, a + 2, a + 3, a + 4, a + 5) == 8) {
        /* Where the child writes how far it came: it may be killed at any moment. */
        volatile int *result = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (result == MAP_FAILED) return 1;
        fflush(stdout);
        pid_t child = fork();
        if (child < 0) return 1;
        if (child == 0) {
            alarm(how == 'b' ? 1 : 30);
            int failed = call(how, number, a) == -1 ? errno : 0;
            result[1] = failed;
            result[0] = 1;
            _exit(0);
        }
        int status;
        while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
        if (result[0] && result[1]) printf("error %d\n", result[1]);
        else if (result[0]) printf("ok\n");
        else if (WIFSIGNALED(status)) printf("signal %d\n", WTERMSIG(status));
        else printf("exit\n");
        munmap((void *)result, 4096);
    }
    return 0;
}
