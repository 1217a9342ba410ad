"""PyPI `cryptography` as a writer and reader of key files, for key_interchange.rs.

    key_interchange.py make ALGORITHM                       writes what the files of a writer are called there
    key_interchange.py check ALGORITHM KIND FILE PUBLIC     reads one of them
"""

import datetime
import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, mldsa, mlkem
from cryptography.x509.oid import NameOID

DER, PEM = serialization.Encoding.DER, serialization.Encoding.PEM
SPKI = serialization.PublicFormat.SubjectPublicKeyInfo
PKCS8 = serialization.PrivateFormat.PKCS8
PASSPHRASE = b"secret"

PRIVATE_KEYS = {
    "ML-DSA-44": mldsa.MLDSA44PrivateKey,
    "ML-DSA-65": mldsa.MLDSA65PrivateKey,
    "ML-DSA-87": mldsa.MLDSA87PrivateKey,
    "ML-KEM-768": mlkem.MLKEM768PrivateKey,
    "ML-KEM-1024": mlkem.MLKEM1024PrivateKey,
}


def read(file):
    return Path(file).read_bytes()


def write(file, data):
    Path(file).write_bytes(data)


def public_pem(key):
    return key.public_bytes(PEM, SPKI)


def make(algorithm):
    key = PRIVATE_KEYS[algorithm].generate()
    public = key.public_key()
    message = b"a message\n"
    write("message", message)
    for encoding, suffix in ((PEM, "pem"), (DER, "der")):
        write(f"private-seed.{suffix}", key.private_bytes(encoding, PKCS8, serialization.NoEncryption()))
        write(f"public.{suffix}", public.public_bytes(encoding, SPKI))
    write("encrypted.pem", key.private_bytes(PEM, PKCS8, serialization.BestAvailableEncryption(PASSPHRASE)))

    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "python")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
    )
    if algorithm.startswith("ML-DSA"):
        write("message.sig", key.sign(message))
        write("certificate.pem", certificate.sign(key, None).public_bytes(PEM))
        request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, None)
        write("request.pem", request.public_bytes(PEM))
    else:
        shared, ciphertext = public.encapsulate()
        write("ciphertext", ciphertext)
        write("shared", shared)
        issuer = ec.generate_private_key(ec.SECP256R1())
        write("certificate.pem", certificate.sign(issuer, hashes.SHA256()).public_bytes(PEM))


def check(algorithm, kind, file, public_file):
    signs = algorithm.startswith("ML-DSA")
    public = serialization.load_pem_public_key(read(public_file))
    if kind == "private":
        load = serialization.load_der_private_key if file.endswith(".der") else serialization.load_pem_private_key
        key = load(read(file), PASSPHRASE if "encrypted" in file else None)
        assert isinstance(key, PRIVATE_KEYS[algorithm])
        assert public_pem(key.public_key()) == read(public_file)
        if signs:
            public.verify(key.sign(b"of the reader"), b"of the reader")
        else:
            shared, ciphertext = public.encapsulate()
            assert key.decapsulate(ciphertext) == shared
    elif kind == "public":
        load = serialization.load_der_public_key if file.endswith(".der") else serialization.load_pem_public_key
        assert public_pem(load(read(file))) == read(public_file)
    elif kind == "signature":
        public.verify(read(file), read("message"))
    elif kind == "certificate":
        certificate = x509.load_pem_x509_certificate(read(file))
        assert public_pem(certificate.public_key()) == read(public_file)
        if signs:
            certificate.verify_directly_issued_by(certificate)
    elif kind == "request":
        request = x509.load_pem_x509_csr(read(file))
        assert request.is_signature_valid
        assert public_pem(request.public_key()) == read(public_file)
    elif kind == "ciphertext":
        key = serialization.load_pem_private_key(read("private-seed.pem"), None)
        assert key.decapsulate(read(file)) == read("shared")
    else:
        raise ValueError(kind)


{"make": make, "check": check}[sys.argv[1]](*sys.argv[2:])
