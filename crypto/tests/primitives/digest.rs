//! Message digests: FIPS 180-4's example "abc" (NIST's "Examples with Intermediate Values"), whole and in pieces.

use qtls_crypto::{AwsLc, Backend, Digest, HashFunction, RustCrypto};

const OF_ABC: [(HashFunction, &str); 4] = [
    (HashFunction::Sha224, "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7"),
    (HashFunction::Sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    (
        HashFunction::Sha384,
        "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7",
    ),
    (
        HashFunction::Sha512,
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd\
         454d4423643ce80e2a9ac94fa54ca49f",
    ),
];

fn holds<B: Backend>() {
    for (function, expected) in OF_ABC {
        let expected = hex::decode(expected).unwrap();
        assert_eq!(Digest::<B>::of(function, b"abc").unwrap(), expected, "{function:?} of {}", B::NAME);
        let mut pieces = Digest::<B>::new(function).unwrap();
        pieces.update(b"a").unwrap();
        let mut copy = pieces.try_clone().unwrap();
        pieces.update(b"x").unwrap();
        copy.update(b"").unwrap();
        copy.update(b"bc").unwrap();
        assert_eq!(copy.finish().unwrap(), expected, "{function:?} of {}, in pieces", B::NAME);
        assert_ne!(pieces.finish().unwrap(), expected);
    }
}

#[test]
fn both_backends_give_the_published_digests_whole_and_in_pieces() {
    holds::<AwsLc>();
    holds::<RustCrypto>();
}
