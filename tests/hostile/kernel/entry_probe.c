/* Tries the other entries of an x86-64 kernel, each in a process of its own, and prints as JSON what became of each.
   Runs inside the sandbox; its argument says in which kind of process. Every entry asks for exit_group(77), so a process
   that ends with 77 was let into the kernel. */

#include <elf.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define ENTERED 77
#define MISSED 78 /* the kernel has no such entry */
#define LEFT 79 /* it has ended */
#define LOAD_AT 0x8048000
#define LOW 0x40 /* MAP_32BIT */

typedef void (*Code)(void);

static const char *names[] = {"int 0x80", "int 0x80, another number", "x32", "x32, a number of its own",
                              "int 0x80 from 32-bit code", "syscall from 32-bit code", "sysenter from 32-bit code",
                              "sysenter", "a 32-bit program", "an x32 program"};
#define COUNT (int)(sizeof names / sizeof *names)

/* mov eax, 252; mov ebx, 77; int 0x80; ud2 */
static const uint8_t int80[] = {0xb8, 252, 0, 0, 0, 0xbb, ENTERED, 0, 0, 0, 0xcd, 0x80, 0x0f, 0x0b};
/* the same by exit, 1, which ends a thread */
static const uint8_t int80_exit[] = {0xb8, 1, 0, 0, 0, 0xbb, ENTERED, 0, 0, 0, 0xcd, 0x80, 0x0f, 0x0b};
/* mov eax, 0x40000000 + 231; mov edi, 77; syscall; mov eax, 231; mov edi, 78; syscall */
static const uint8_t x32[] = {0xb8, 231, 0, 0, 0x40, 0xbf, ENTERED, 0, 0, 0, 0x0f, 0x05,
                              0xb8, 231, 0, 0, 0,    0xbf, MISSED,  0, 0, 0, 0x0f, 0x05};
/* the same by 0x40000000 + 545, an execveat of x32 alone */
static const uint8_t x32_own[] = {0xb8, 0x21, 2, 0, 0x40, 0xbf, ENTERED, 0, 0, 0, 0x0f, 0x05,
                                  0xb8, 231,  0, 0, 0,    0xbf, MISSED,  0, 0, 0, 0x0f, 0x05};

static uint8_t *room(int flags) {
    void *found = mmap(NULL, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    if (found == MAP_FAILED) _exit(1);
    return found;
}

static void run(const uint8_t *code, size_t size) { ((Code)memcpy(room(0), code, size))(); }

/* With a stack that is near enough for 32 bits, where the kernel looks for an argument; from the 64-bit segment, or by a
   far return from the 32-bit one. */
static void run_below(int in_32_bits, uint8_t first, uint8_t second) {
    uint8_t *page = room(LOW);
    uint32_t inside = (uint32_t)(uintptr_t)page + 64, stack = inside + 4096;
    /* push 0x23; push inside; retfq */
    uint8_t jump[] = {0x6a, 0x23, 0x68, 0, 0, 0, 0, 0x48, 0xcb};
    memcpy(jump + 3, &inside, 4);
    memcpy(page, jump, sizeof jump);
    /* mov eax, 252; mov ebx, 77; mov esp, stack; mov ebp, esp; the entry; ud2 */
    uint8_t code[] = {0xb8, 252, 0,    0,    0,     0xbb,   ENTERED, 0,   0, 0, 0xbc,
                      0,    0,   0,    0,    0x89,  0xe5,   first,   second, 0x0f, 0x0b};
    memcpy(code + 11, &stack, 4);
    memcpy(page + 64, code, sizeof code);
    ((Code)(in_32_bits ? page : page + 64))();
}

/* Executes a static program of 32-bit ELF that makes its own kind of call. */
static void execute(uint16_t machine, const uint8_t *code, size_t size, const char *path) {
    struct {
        Elf32_Ehdr header;
        Elf32_Phdr segment;
        uint8_t code[64];
    } file;
    memset(&file, 0, sizeof file);
    memcpy(file.header.e_ident, "\177ELF\1\1\1", 7);
    file.header.e_type = ET_EXEC;
    file.header.e_machine = machine;
    file.header.e_version = 1;
    file.header.e_entry = LOAD_AT + sizeof file.header + sizeof file.segment;
    file.header.e_phoff = file.header.e_ehsize = sizeof file.header;
    file.header.e_phentsize = sizeof file.segment;
    file.header.e_phnum = 1;
    file.segment.p_type = PT_LOAD;
    file.segment.p_vaddr = file.segment.p_paddr = LOAD_AT;
    file.segment.p_filesz = file.segment.p_memsz = sizeof file;
    file.segment.p_flags = PF_R | PF_X;
    file.segment.p_align = 4096;
    memcpy(file.code, code, size);
    int out = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0755);
    if (write(out, &file, sizeof file) != sizeof file) _exit(1);
    close(out);
    execl(path, path, NULL);
    _exit(MISSED);
}

static void enter(int which) {
    switch (which) {
        case 0: run(int80, sizeof int80); break;
        case 1: run(int80_exit, sizeof int80_exit); break;
        case 2: run(x32, sizeof x32); break;
        case 3: run(x32_own, sizeof x32_own); break;
        case 4: run_below(1, 0xcd, 0x80); break;
        case 5: run_below(1, 0x0f, 0x05); break;
        case 6: run_below(1, 0x0f, 0x34); break;
        case 7: run_below(0, 0x0f, 0x34); break;
        case 8: execute(EM_386, int80, sizeof int80, "/work/i386"); break;
        case 9: execute(EM_X86_64, x32, sizeof x32, "/work/x32"); break;
    }
    _exit(1);
}

static void *enter_in_thread(void *which) {
    enter((int)(intptr_t)which);
    return NULL;
}

/* Waits for a child, and ends as a shell would that ran it. */
static void end_as(pid_t child) {
    int status = 0;
    waitpid(child, &status, 0);
    _exit(WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
}

static void enter_as(const char *kind, int which) {
    char number[8];
    pthread_t thread;
    pid_t child;
    snprintf(number, sizeof number, "%d", which);
    if (!strcmp(kind, "child")) enter(which);
    if (!strcmp(kind, "executed")) execl("/proc/self/exe", "probe", "child", number, NULL);
    if (!strcmp(kind, "grandchild of an executed")) execl("/proc/self/exe", "probe", "grandchild", number, NULL);
    if (!strcmp(kind, "thread")) {
        pthread_create(&thread, NULL, enter_in_thread, (void *)(intptr_t)which);
        pthread_join(thread, NULL);
    }
    if (!strcmp(kind, "grandchild")) {
        if ((child = fork()) == 0) enter(which);
        end_as(child);
    }
    if (!strcmp(kind, "vforked")) {
        if ((child = vfork()) == 0) enter(which);
        end_as(child);
    }
    if (!strcmp(kind, "daemon")) { /* the agent inherits it, so that how it ends only the kernel tells */
        int ends[2];
        char none;
        if (pipe(ends)) _exit(1);
        if (fork() == 0) {
            setsid();
            if (fork() == 0) enter(which);
            _exit(0);
        }
        close(ends[1]);
        _exit(read(ends[0], &none, 1) == 0 ? LEFT : 1);
    }
    _exit(1);
}

int main(int count, char **arguments) {
    if (count > 2) enter_as(arguments[1], atoi(arguments[2]));
    for (int which = 0; which < COUNT; which++) {
        int status = 0;
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) enter_as(arguments[1], which);
        waitpid(child, &status, 0);
        int code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
        printf("%s\"%s\": \"", which ? ", " : "{", names[which]);
        if (code == ENTERED) printf("entered\"");
        else if (code == MISSED) printf("missing\"");
        else if (code == LEFT) printf("left\"");
        else if (code == 128 + SIGSYS) printf("SIGSYS\"");
        else if (code > 128) printf("signal %d\"", code - 128);
        else printf("exit %d\"", code);
    }
    puts("}");
    return 0;
}
