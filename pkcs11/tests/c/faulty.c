/* A PKCS#11 module for tests: it passes calls on to another module and does wrong what a control file asks for.
 *
 *   FAULTY_MODULE   the other module; SoftHSM's without
 *   FAULTY_CONTROL  the control file; it is read again at each call, and may be missing
 *   FAULTY_LOG      a file that gets a line "PID FUNCTION" for each call, and those named below
 *
 * The variables are read once, when the module is loaded, so that processes with a cleared environment obey them too.
 *
 * Lines of the control file ('#' begins a comment):
 *
 *   C_Sign rv=0x32            the function answers so and does nothing ('rv=0x32 times=1': the first time since this line is
 *                             there, in each process)
 *   C_Sign after rv=0x32      the function is passed on, then answers so
 *   C_Sign hang               the function waits until the line is gone
 *   C_Sign slow=20            the function takes 20 ms longer
 *   C_Sign truncate           the answer is one byte shorter
 *   sessions 2                the third session at a time, in one process, gets CKR_SESSION_COUNT
 *   restart 1                 when the number changes, sessions, handles and login are lost, as when a token's service restarts
 *   absent                    no slot has a token, and what needs one gets CKR_DEVICE_REMOVED
 *   token-flags 0x20000       are added to the flags of each token
 *   always-authenticate       private keys have CKA_ALWAYS_AUTHENTICATE
 *   no-sign                   private keys have no CKA_SIGN
 *   hide 0x122                this attribute is shown of no object
 *
 * It is strict where modules in the field are: what a forked process does before C_Initialize gets
 * CKR_CRYPTOKI_NOT_INITIALIZED and the log line "PID FOREIGN FUNCTION"; C_Initialize in a process whose parent had initialised
 * gets CKR_CRYPTOKI_ALREADY_INITIALIZED. Two calls at a time with one session are logged as "PID CONCURRENT FUNCTION", and
 * C_Finalize during another call as "PID INSIDE C_Finalize".
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef unsigned long ulong_t;
typedef ulong_t rv_t;

enum {
	CKR_OK = 0,
	CKR_GENERAL_ERROR = 0x5,
	CKR_DEVICE_REMOVED = 0x32,
	CKR_ATTRIBUTE_TYPE_INVALID = 0x12,
	CKR_SESSION_COUNT = 0xB1,
	CKR_CRYPTOKI_NOT_INITIALIZED = 0x190,
	CKR_CRYPTOKI_ALREADY_INITIALIZED = 0x191,
	CKA_CLASS = 0x0,
	CKA_SIGN = 0x108,
	CKA_ALWAYS_AUTHENTICATE = 0x202,
	CKO_PRIVATE_KEY = 3,
};

/* The functions in the order of CK_FUNCTION_LIST (PKCS#11 2.40). */
#define FUNCTIONS(X) \
	X(C_Initialize) X(C_Finalize) X(C_GetInfo) X(C_GetFunctionList) X(C_GetSlotList) X(C_GetSlotInfo) X(C_GetTokenInfo) \
	X(C_GetMechanismList) X(C_GetMechanismInfo) X(C_InitToken) X(C_InitPIN) X(C_SetPIN) X(C_OpenSession) \
	X(C_CloseSession) X(C_CloseAllSessions) X(C_GetSessionInfo) X(C_GetOperationState) X(C_SetOperationState) X(C_Login) \
	X(C_Logout) X(C_CreateObject) X(C_CopyObject) X(C_DestroyObject) X(C_GetObjectSize) X(C_GetAttributeValue) \
	X(C_SetAttributeValue) X(C_FindObjectsInit) X(C_FindObjects) X(C_FindObjectsFinal) X(C_EncryptInit) X(C_Encrypt) \
	X(C_EncryptUpdate) X(C_EncryptFinal) X(C_DecryptInit) X(C_Decrypt) X(C_DecryptUpdate) X(C_DecryptFinal) \
	X(C_DigestInit) X(C_Digest) X(C_DigestUpdate) X(C_DigestKey) X(C_DigestFinal) X(C_SignInit) X(C_Sign) X(C_SignUpdate) \
	X(C_SignFinal) X(C_SignRecoverInit) X(C_SignRecover) X(C_VerifyInit) X(C_Verify) X(C_VerifyUpdate) X(C_VerifyFinal) \
	X(C_VerifyRecoverInit) X(C_VerifyRecover) X(C_DigestEncryptUpdate) X(C_DecryptDigestUpdate) X(C_SignEncryptUpdate) \
	X(C_DecryptVerifyUpdate) X(C_GenerateKey) X(C_GenerateKeyPair) X(C_WrapKey) X(C_UnwrapKey) X(C_DeriveKey) \
	X(C_SeedRandom) X(C_GenerateRandom) X(C_GetFunctionStatus) X(C_CancelFunction) X(C_WaitForSlotEvent)

enum function {
#define ENUMERATE(name) F_##name,
	FUNCTIONS(ENUMERATE)
	FUNCTION_COUNT
};

static const char *const names[] = {
#define NAME(name) #name,
	FUNCTIONS(NAME)
};

/* Every argument of every function is a pointer, an unsigned long or a byte, and all are passed alike in the calling
 * conventions of x86-64 and AArch64; no function has more than eight. */
typedef rv_t (*call_t)(ulong_t, ulong_t, ulong_t, ulong_t, ulong_t, ulong_t, ulong_t, ulong_t);

struct list {
	unsigned char version[2];
	call_t functions[FUNCTION_COUNT];
};

struct attribute {
	ulong_t type;
	void *value;
	ulong_t length;
};

#define MAX_SESSIONS 256
#define CONTROL_BYTES 4096

static struct list *real;
static struct list ours;
static char *control_path;
static int log_file = -1;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pid_t initialized_by;
static atomic_int inside;
static struct {
	ulong_t handle;
	int busy;
} sessions[MAX_SESSIONS];
static int session_count;
static char seen_control[CONTROL_BYTES];
static int applied[FUNCTION_COUNT];
static char seen_restart[32];

static void log_line(const char *what, enum function f)
{
	char line[128];
	if (log_file < 0)
		return;
	int length = snprintf(line, sizeof line, "%d %s%s%s\n", (int)getpid(), what, *what ? " " : "", names[f]);
	if (write(log_file, line, (size_t)length) != length)
		perror("FAULTY_LOG");
}

static void read_control(char *out)
{
	out[0] = 0;
	if (!control_path)
		return;
	int file = open(control_path, O_RDONLY | O_CLOEXEC);
	if (file < 0)
		return;
	ssize_t length = read(file, out, CONTROL_BYTES - 1);
	close(file);
	out[length < 0 ? 0 : length] = 0;
}

/* Copies the rest of the line that begins with `word`; whether there is one. */
static int directive(const char *control, const char *word, char *rest, size_t size)
{
	size_t length = strlen(word);
	for (const char *line = control; *line;) {
		const char *end = strchrnul(line, '\n');
		if ((size_t)(end - line) >= length && !strncmp(line, word, length) &&
		    (line[length] == ' ' || line + length == end)) {
			snprintf(rest, size, "%.*s", (int)(end - line - length), line + length);
			return 1;
		}
		line = *end ? end + 1 : end;
	}
	return 0;
}

static void pause_ms(long ms)
{
	struct timespec time = { ms / 1000, ms % 1000 * 1000000 };
	nanosleep(&time, NULL);
}

static int add_session(ulong_t handle)
{
	for (int i = 0; i < MAX_SESSIONS; i++)
		if (!sessions[i].handle) {
			sessions[i].handle = handle;
			sessions[i].busy = 0;
			session_count++;
			return i;
		}
	return -1;
}

static int find_session(ulong_t handle)
{
	for (int i = 0; handle && i < MAX_SESSIONS; i++)
		if (sessions[i].handle == handle)
			return i;
	return -1;
}

static void forget_sessions(void)
{
	memset(sessions, 0, sizeof sessions);
	session_count = 0;
}

static int uses_session(enum function f)
{
	return (f >= F_C_CloseSession && f <= F_C_GenerateRandom && f != F_C_CloseAllSessions);
}

static int needs_token(enum function f)
{
	return f == F_C_GetTokenInfo || f >= F_C_OpenSession;
}

static rv_t get_attributes(const char *control, ulong_t session, ulong_t object, struct attribute *wanted, ulong_t count)
{
	char rest[64];
	ulong_t hidden = ~0UL;
	if (directive(control, "hide", rest, sizeof rest))
		hidden = strtoul(rest, NULL, 0);
	call_t get = real->functions[F_C_GetAttributeValue];
	rv_t rv = get(session, object, (ulong_t)wanted, count, 0, 0, 0, 0);
	for (ulong_t i = 0; i < count; i++) {
		struct attribute *one = &wanted[i];
		if (one->type == hidden) {
			one->length = ~0UL;
			rv = CKR_ATTRIBUTE_TYPE_INVALID;
		}
		int authenticate = one->type == CKA_ALWAYS_AUTHENTICATE && directive(control, "always-authenticate", rest, sizeof rest);
		int sign = one->type == CKA_SIGN && directive(control, "no-sign", rest, sizeof rest);
		if ((authenticate || sign) && one->length == 1 && one->value)
			*(unsigned char *)one->value = authenticate;
	}
	return rv;
}

static rv_t handle_call(enum function f, ulong_t *a)
{
	char control[CONTROL_BYTES], rest[256];
	rv_t answer = CKR_OK;
	int answer_after = 0, truncate = 0;

	log_line("", f);
	read_control(control);
	pthread_mutex_lock(&lock);
	if (strcmp(control, seen_control)) {
		strcpy(seen_control, control);
		memset(applied, 0, sizeof applied);
	}
	if (initialized_by && initialized_by != getpid() && f > F_C_Finalize) {
		pthread_mutex_unlock(&lock);
		log_line("FOREIGN", f);
		return CKR_CRYPTOKI_NOT_INITIALIZED;
	}
	if (directive(control, "restart", rest, sizeof rest) && strcmp(rest, seen_restart) && f > F_C_Finalize) {
		snprintf(seen_restart, sizeof seen_restart, "%.*s", (int)sizeof seen_restart - 1, rest);
		real->functions[F_C_Finalize](0, 0, 0, 0, 0, 0, 0, 0);
		real->functions[F_C_Initialize](0, 0, 0, 0, 0, 0, 0, 0);
		forget_sessions();
	}
	if (directive(control, names[f], rest, sizeof rest)) {
		char *rv = strstr(rest, "rv="), *times = strstr(rest, "times="), *slow = strstr(rest, "slow=");
		if (strstr(rest, "hang")) {
			pthread_mutex_unlock(&lock);
			do {
				pause_ms(2);
				read_control(control);
			} while (directive(control, names[f], rest, sizeof rest) && strstr(rest, "hang"));
			pthread_mutex_lock(&lock);
			rv = times = slow = NULL;
		}
		if (slow) {
			pthread_mutex_unlock(&lock);
			pause_ms(strtol(slow + 5, NULL, 0));
			pthread_mutex_lock(&lock);
		}
		truncate = strstr(rest, "truncate") != NULL;
		if (rv && (!times || applied[f] < strtol(times + 6, NULL, 0))) {
			applied[f]++;
			answer = strtoul(rv + 3, NULL, 0);
			answer_after = strstr(rest, "after") != NULL;
			if (!answer_after) {
				pthread_mutex_unlock(&lock);
				return answer;
			}
		}
	}
	int absent = directive(control, "absent", rest, sizeof rest);
	if (absent && needs_token(f)) {
		pthread_mutex_unlock(&lock);
		return CKR_DEVICE_REMOVED;
	}
	if (f == F_C_OpenSession && directive(control, "sessions", rest, sizeof rest) && session_count >= strtol(rest, NULL, 0)) {
		pthread_mutex_unlock(&lock);
		return CKR_SESSION_COUNT;
	}
	int used = uses_session(f) ? find_session(a[0]) : -1;
	if (used >= 0 && sessions[used].busy++)
		log_line("CONCURRENT", f);
	if (f == F_C_Initialize && initialized_by && initialized_by != getpid()) {
		pthread_mutex_unlock(&lock);
		return CKR_CRYPTOKI_ALREADY_INITIALIZED;
	}
	if (f == F_C_Finalize && atomic_load(&inside))
		log_line("INSIDE", f);
	pthread_mutex_unlock(&lock);

	rv_t rv;
	atomic_fetch_add(&inside, 1);
	if (f == F_C_GetSlotList && absent) {
		*(ulong_t *)a[2] = 0;
		rv = CKR_OK;
	} else if (f == F_C_GetAttributeValue) {
		rv = get_attributes(control, a[0], a[1], (struct attribute *)a[2], a[3]);
	} else {
		rv = real->functions[f](a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]);
	}
	atomic_fetch_sub(&inside, 1);

	pthread_mutex_lock(&lock);
	if (used >= 0 && sessions[used].busy)
		sessions[used].busy--;
	if (rv == CKR_OK) {
		switch ((int)f) {
		case F_C_Initialize:
			initialized_by = getpid();
			forget_sessions();
			break;
		case F_C_Finalize:
			initialized_by = 0;
			forget_sessions();
			break;
		case F_C_OpenSession:
			add_session(*(ulong_t *)a[4]);
			break;
		case F_C_CloseSession:
			if (used >= 0) {
				sessions[used].handle = 0;
				session_count--;
			}
			break;
		case F_C_CloseAllSessions:
			forget_sessions();
			break;
		case F_C_GetTokenInfo:
			/* label, manufacturer, model and serial number come before the flags. */
			if (directive(control, "token-flags", rest, sizeof rest))
				*(ulong_t *)((char *)a[1] + 96) |= strtoul(rest, NULL, 0);
			break;
		case F_C_Sign:
			if (truncate)
				--*(ulong_t *)a[4];
			break;
		}
	}
	pthread_mutex_unlock(&lock);
	return answer_after ? answer : rv;
}

#define WRAP(name) \
	static rv_t wrap_##name(ulong_t a, ulong_t b, ulong_t c, ulong_t d, ulong_t e, ulong_t f, ulong_t g, ulong_t h) \
	{ \
		ulong_t arguments[] = { a, b, c, d, e, f, g, h }; \
		return handle_call(F_##name, arguments); \
	}
FUNCTIONS(WRAP)

static rv_t give_list(struct list **out)
{
	if (!real)
		return CKR_GENERAL_ERROR;
	*out = &ours;
	return CKR_OK;
}

__attribute__((visibility("default"))) rv_t C_GetFunctionList(struct list **out)
{
	return give_list(out);
}

/* A thread that holds the lock is not copied by a fork. */
static void before_fork(void)
{
	pthread_mutex_lock(&lock);
}

static void after_fork(void)
{
	pthread_mutex_unlock(&lock);
}

static void in_child(void)
{
	pthread_mutex_unlock(&lock);
	atomic_store(&inside, 0);
}

__attribute__((constructor)) static void load(void)
{
	const char *path = getenv("FAULTY_MODULE"), *log_path = getenv("FAULTY_LOG"), *control = getenv("FAULTY_CONTROL");
	void *library = dlopen(path ? path : "/usr/lib/softhsm/libsofthsm2.so", RTLD_NOW | RTLD_LOCAL);
	rv_t (*get_list)(struct list **) = NULL;
	if (library)
		*(void **)&get_list = dlsym(library, "C_GetFunctionList");
	if (!get_list || get_list(&real) != CKR_OK) {
		fprintf(stderr, "faulty: %s\n", library ? "no function list" : dlerror());
		real = NULL;
		return;
	}
	if (control)
		control_path = strdup(control);
	if (log_path)
		log_file = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
	memcpy(ours.version, real->version, sizeof ours.version);
#define SET(name) ours.functions[F_##name] = wrap_##name;
	FUNCTIONS(SET)
	ours.functions[F_C_GetFunctionList] = (call_t)(void (*)(void))give_list;
	pthread_atfork(before_fork, after_fork, in_child);
}
