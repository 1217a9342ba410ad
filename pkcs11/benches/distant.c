/* A token at a distance: SoftHSM, whose C_Sign answers two milliseconds later, as that of an HSM in the network does. No
 * registry has such an HSM; this stands for its round trip, and for nothing else of it. */
#include <dlfcn.h>
#include <p11-kit/pkcs11.h>
#include <stddef.h>
#include <time.h>

static CK_FUNCTION_LIST near, far;

static CK_RV sign_later(CK_SESSION_HANDLE session, CK_BYTE_PTR data, CK_ULONG data_bytes, CK_BYTE_PTR signature,
                        CK_ULONG_PTR signature_bytes) {
    struct timespec round_trip = {0, 2000000};
    nanosleep(&round_trip, NULL);
    return near.C_Sign(session, data, data_bytes, signature, signature_bytes);
}

CK_RV C_GetFunctionList(CK_FUNCTION_LIST_PTR_PTR list) {
    CK_FUNCTION_LIST *found;
    void *module = dlopen("/usr/lib/softhsm/libsofthsm2.so", RTLD_NOW | RTLD_LOCAL);
    CK_C_GetFunctionList get = module ? (CK_C_GetFunctionList)dlsym(module, "C_GetFunctionList") : NULL;
    if (get == NULL || get(&found) != CKR_OK)
        return CKR_GENERAL_ERROR;
    near = far = *found;
    far.C_Sign = sign_later;
    *list = &far;
    return CKR_OK;
}
