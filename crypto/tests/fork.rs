//! nginx forks its workers: what the first key of a child costs.
//!
//! Built with its default seeding (CPU jitter), AWS-LC takes some 15 ms for a child's first random byte;
//! `.cargo/config.toml` switches that off. The one test file with `unsafe`, for fork.

use qtls_crypto::{AwsLc, Backend, KEM_ALGORITHMS, KemPrivateKey, RustCrypto};
use std::io::{Read, Write};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_millis(1);
const FORKS: usize = 5;

/// One test and not two: a fork beside another test's thread could catch it holding the generator's lock.
#[test]
fn a_forked_child_has_its_first_key_within_a_millisecond_and_draws_its_own_bytes() {
    the_first_key_takes_less_than_a_millisecond();
    parent_and_child_draw_different_random_bytes::<AwsLc>();
    parent_and_child_draw_different_random_bytes::<RustCrypto>();
}

fn the_first_key_takes_less_than_a_millisecond() {
    fn check<B: Backend>(when: &str) {
        // The quickest of a few: a busy machine makes single ones late.
        let fastest = (0..FORKS).map(|_| first_key_in_a_child::<B>()).min().unwrap();
        println!("{}, {when}: {} µs", B::NAME, fastest.as_micros());
        assert!(fastest < LIMIT, "{}, {when}: {} µs", B::NAME, fastest.as_micros());
    }
    check::<AwsLc>("parent has made no key");
    KemPrivateKey::<AwsLc>::generate(&KEM_ALGORITHMS[0]).unwrap();
    check::<AwsLc>("parent has made a key");
}

fn parent_and_child_draw_different_random_bytes<B: Backend>() {
    let draw = || {
        let mut bytes = vec![0; 32];
        B::random(&mut bytes).unwrap();
        bytes
    };
    draw();
    let drawn_by_child = in_a_child(draw);
    assert_eq!(drawn_by_child.len(), 32);
    assert_ne!(drawn_by_child, draw(), "{}", B::NAME);
}

fn first_key_in_a_child<B: Backend>() -> Duration {
    let nanoseconds = in_a_child(|| {
        let begin = Instant::now();
        KemPrivateKey::<B>::generate(&KEM_ALGORITHMS[0]).unwrap();
        (begin.elapsed().as_nanos() as u64).to_le_bytes().to_vec()
    });
    Duration::from_nanos(u64::from_le_bytes(nanoseconds.try_into().unwrap()))
}

/// What `work` returns in a fork of this process; empty if the child failed.
fn in_a_child(work: impl FnOnce() -> Vec<u8>) -> Vec<u8> {
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    // SAFETY: the child runs only `work` and a write, takes no lock that another thread of the parent may hold (the
    // allocator's are made safe by the C library), and leaves by `_exit` without unwinding into the parent's frames.
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", std::io::Error::last_os_error()),
        0 => {
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| writer.write_all(&work())));
            // SAFETY: ends the child at once; nothing of it is needed after this.
            unsafe { libc::_exit(i32::from(!matches!(done, Ok(Ok(()))))) }
        }
        child => {
            drop(writer);
            let mut result = Vec::new();
            reader.read_to_end(&mut result).unwrap();
            let mut status = 0;
            // SAFETY: `child` is our own child, not waited for yet, and `status` is a live integer.
            assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
            assert_eq!(status, 0, "the child failed");
            result
        }
    }
}
