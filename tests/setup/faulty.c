/* A PKCS#11 module in front of another, with faults that a test turns on and off while servers run.
 *
 * Compiled by tests/harness/token.rs with REAL, the module behind it, and CONTROL, a file with one fault a line:
 *
 *   C_Sign fail 48        answers CKR_DEVICE_ERROR (0x30)
 *   C_Sign once 48        the same, one time in each process
 *   C_Sign hang 30        answers after so many seconds
 *   C_OpenSession limit 2 answers CKR_SESSION_COUNT while this process has two
 *   C_GetTokenInfo flags 131072   adds flags to those of the token (PKCS#11 v2.40 section 3.2)
 *
 * Each call of a function that may fail here adds its name and the process's number to CONTROL.calls. Arguments of
 * PKCS#11 are pointers and unsigned longs alone, so that one wrapper fits all (x86-64 and AArch64 psABI). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef unsigned long ulong_t;
typedef ulong_t (*function)(ulong_t, ulong_t, ulong_t, ulong_t, ulong_t, ulong_t, ulong_t, ulong_t);
struct functions {
    unsigned char major, minor;
    function entry[68];
};

enum { CKR_FUNCTION_FAILED = 6, CKR_SESSION_COUNT = 0xb1 };
/* Places in CK_FUNCTION_LIST. */
enum {
    INITIALIZE = 0, FINALIZE = 1, GET_FUNCTION_LIST = 3, GET_SLOT_LIST = 4, GET_TOKEN_INFO = 6, OPEN_SESSION = 12,
    CLOSE_SESSION = 13, CLOSE_ALL_SESSIONS = 14, LOGIN = 18, CREATE_OBJECT = 20, FIND_OBJECTS_INIT = 26,
    SIGN_INIT = 42, SIGN = 43, GENERATE_KEY_PAIR = 59
};
/* Of flags in CK_TOKEN_INFO, behind label, manufacturerID, model and serialNumber. */
enum { FLAGS_OFFSET = 32 + 32 + 16 + 16 };

static struct functions *real, ours;
static long sessions;

static void note(const char *name) {
    char line[64];
    int length = snprintf(line, sizeof line, "%s %d\n", name, (int)getpid());
    int file = open(CONTROL ".calls", O_WRONLY | O_APPEND | O_CREAT, 0666);
    if (file < 0) return;
    if (write(file, line, (size_t)length) != length) abort();
    close(file);
}

/* The fault of this function that stands in CONTROL, and its number. */
static int fault(const char *name, char kind[16], long *number) {
    FILE *file = fopen(CONTROL, "r");
    char function[64];
    int found = 0;
    while (file && fscanf(file, "%63s %15s %ld", function, kind, number) == 3)
        if (strcmp(function, name) == 0) {
            found = 1;
            break;
        }
    if (file) fclose(file);
    return found;
}

/* Whether CONTROL was written since the last time that this was asked. */
static int is_new(void) {
    static struct timespec last;
    struct stat now;
    if (stat(CONTROL, &now) != 0 || memcmp(&now.st_mtim, &last, sizeof last) == 0) return 0;
    last = now.st_mtim;
    return 1;
}

static ulong_t call(const char *name, int place, ulong_t a, ulong_t b, ulong_t c, ulong_t d, ulong_t e, ulong_t f,
                    ulong_t g, ulong_t h) {
    char kind[16] = "";
    long number = 0;
    note(name);
    int faulty = fault(name, kind, &number);
    if (faulty && strcmp(kind, "fail") == 0) return (ulong_t)number;
    if (faulty && strcmp(kind, "once") == 0 && is_new()) return (ulong_t)number;
    if (faulty && strcmp(kind, "hang") == 0) sleep((unsigned)number);
    if (faulty && strcmp(kind, "limit") == 0 && __atomic_load_n(&sessions, __ATOMIC_SEQ_CST) >= number)
        return CKR_SESSION_COUNT;
    ulong_t answer = real->entry[place](a, b, c, d, e, f, g, h);
    if (answer == 0 && place == OPEN_SESSION) __atomic_add_fetch(&sessions, 1, __ATOMIC_SEQ_CST);
    if (answer == 0 && faulty && strcmp(kind, "flags") == 0) *(ulong_t *)(b + FLAGS_OFFSET) |= (ulong_t)number;
    return answer;
}

#define WRAPPER(name, place)                                                                                       \
    static ulong_t name(ulong_t a, ulong_t b, ulong_t c, ulong_t d, ulong_t e, ulong_t f, ulong_t g, ulong_t h) { \
        return call("C_" #name, place, a, b, c, d, e, f, g, h);                                                    \
    }
WRAPPER(Initialize, INITIALIZE)
WRAPPER(GetSlotList, GET_SLOT_LIST)
WRAPPER(GetTokenInfo, GET_TOKEN_INFO)
WRAPPER(OpenSession, OPEN_SESSION)
WRAPPER(Login, LOGIN)
WRAPPER(CreateObject, CREATE_OBJECT)
WRAPPER(FindObjectsInit, FIND_OBJECTS_INIT)
WRAPPER(SignInit, SIGN_INIT)
WRAPPER(Sign, SIGN)
WRAPPER(GenerateKeyPair, GENERATE_KEY_PAIR)

static ulong_t Finalize(ulong_t a, ulong_t b, ulong_t c, ulong_t d, ulong_t e, ulong_t f, ulong_t g, ulong_t h) {
    __atomic_store_n(&sessions, 0, __ATOMIC_SEQ_CST);
    return call("C_Finalize", FINALIZE, a, b, c, d, e, f, g, h);
}

static ulong_t CloseSession(ulong_t a, ulong_t b, ulong_t c, ulong_t d, ulong_t e, ulong_t f, ulong_t g, ulong_t h) {
    ulong_t answer = real->entry[CLOSE_SESSION](a, b, c, d, e, f, g, h);
    if (answer == 0) __atomic_sub_fetch(&sessions, 1, __ATOMIC_SEQ_CST);
    return answer;
}

static ulong_t CloseAllSessions(ulong_t a, ulong_t b, ulong_t c, ulong_t d, ulong_t e, ulong_t f, ulong_t g,
                                ulong_t h) {
    __atomic_store_n(&sessions, 0, __ATOMIC_SEQ_CST);
    return real->entry[CLOSE_ALL_SESSIONS](a, b, c, d, e, f, g, h);
}

ulong_t C_GetFunctionList(struct functions **list) {
    if (!real) {
        void *module = dlopen(REAL, RTLD_NOW | RTLD_LOCAL);
        ulong_t (*get)(struct functions **) = NULL;
        if (module) *(void **)&get = dlsym(module, "C_GetFunctionList");
        if (!get || get(&real) != 0) return CKR_FUNCTION_FAILED;
        memcpy(&ours, real, sizeof ours);
        *(void **)&ours.entry[GET_FUNCTION_LIST] = (void *)C_GetFunctionList;
        ours.entry[INITIALIZE] = Initialize;
        ours.entry[FINALIZE] = Finalize;
        ours.entry[GET_SLOT_LIST] = GetSlotList;
        ours.entry[GET_TOKEN_INFO] = GetTokenInfo;
        ours.entry[OPEN_SESSION] = OpenSession;
        ours.entry[CLOSE_SESSION] = CloseSession;
        ours.entry[CLOSE_ALL_SESSIONS] = CloseAllSessions;
        ours.entry[LOGIN] = Login;
        ours.entry[CREATE_OBJECT] = CreateObject;
        ours.entry[FIND_OBJECTS_INIT] = FindObjectsInit;
        ours.entry[SIGN_INIT] = SignInit;
        ours.entry[SIGN] = Sign;
        ours.entry[GENERATE_KEY_PAIR] = GenerateKeyPair;
    }
    *list = &ours;
    return 0;
}
