//! What a peer may send that is no share: it gets `illegal_parameter`, the worker lives, the log says why.

use anyhow::{Result, ensure};
use qtls_tests::{
    GROUPS, Native, OpensslConf, Platform,
    client_hello::{ILLEGAL_PARAMETER, Reply, send},
    groups::{Curve, Group},
    nginx::{Nginx, Server, Setup, answer_location},
    platform::{DEBIAN_12, DEBIAN_13, DEBIAN_SID, NGINX_ON_3_4_1},
    process::wait_for,
    report::Report,
    rustls_client::RustlsClient,
};

#[test]
fn broken_shares_are_refused_on_openssl_3_0() {
    broken_shares_are_refused(&DEBIAN_12, Native::Yield);
}

#[test]
fn broken_shares_are_refused_on_openssl_3_4_1() {
    broken_shares_are_refused(&NGINX_ON_3_4_1, Native::Yield);
}

#[test]
fn broken_shares_are_refused_on_openssl_3_5_with_native_prefer() {
    broken_shares_are_refused(&DEBIAN_13, Native::Prefer);
}

#[test]
fn broken_shares_are_refused_on_openssl_3_6_with_native_prefer() {
    broken_shares_are_refused(&DEBIAN_SID, Native::Prefer);
}

/// The counterpart: with `native = yield` OpenSSL's own implementation refuses, and ours has no part in it.
#[test]
fn with_native_yield_openssl_3_5_refuses_broken_shares_itself() {
    let nginx = start(&DEBIAN_13, Native::Yield);
    let mut report = Report::new();
    for (index, group) in GROUPS.iter().enumerate() {
        let outcome = refused(&nginx, index, group, &too_short(group)).and_then(|logged| {
            ensure!(!logged.contains(":qtls:"), "qtls refused it: {logged}");
            Ok(())
        });
        report.check(group.name, outcome);
    }
    report.finish();
}

fn broken_shares_are_refused(platform: &Platform, native: Native) {
    let nginx = start(platform, native);
    let workers = nginx.workers().expect("workers");
    let mut report = Report::new();
    for (index, group) in GROUPS.iter().enumerate() {
        let good = share(group);
        report.check(&format!("{}: a whole share is taken", group.name), taken(&nginx, index, group, &good));
        for (fault, bytes) in broken(group) {
            let outcome = refused(&nginx, index, group, &bytes).and_then(|logged| {
                ensure!(logged.contains(":qtls:"), "the log does not name the provider: {logged}");
                Ok(())
            });
            report.check(&format!("{}: {fault}", group.name), outcome);
        }
        report.check(
            &format!("{}: a whole share is taken after", group.name),
            taken(&nginx, index, group, &good),
        );
    }
    let served = RustlsClient::new("X25519MLKEM768").and_then(|client| client.get(nginx.port(0))?.answer());
    report.check("a client is served afterwards", served.map(drop));
    report.check(
        "the workers live",
        nginx.workers().and_then(|now| {
            ensure!(now == workers, "they were {workers:?} and are {now:?}");
            Ok(())
        }),
    );
    report.check("nginx ends well", nginx.quit());
    report.finish();
}

fn start(platform: &Platform, native: Native) -> Nginx {
    let servers = GROUPS.map(|group| Server::groups(group.name).lines(&answer_location())).to_vec();
    let setup = Setup::new(OpensslConf::new().native(native), servers);
    Nginx::start(platform, &setup).unwrap_or_else(|error| panic!("{error:#}"))
}

fn taken(nginx: &Nginx, server: usize, group: &Group, share: &[u8]) -> Result<()> {
    let reply = send(nginx.port(server), &[group.code_point], &[(group.code_point, share)])?;
    ensure!(
        matches!(reply, Reply::ServerHello { group: found, .. } if found == group.code_point),
        "{reply:?}"
    );
    Ok(())
}

/// Sends the share, checks the alert, and returns the log line.
fn refused(nginx: &Nginx, server: usize, group: &Group, share: &[u8]) -> Result<String> {
    let before = nginx.error_log()?.len();
    let reply = send(nginx.port(server), &[group.code_point], &[(group.code_point, share)])?;
    ensure!(reply == Reply::Alert(ILLEGAL_PARAMETER), "the answer is {reply:?}");
    wait_for("the line in nginx's log", || {
        let log = nginx.error_log()?;
        Ok(log[before..].lines().find(|line| line.contains("(SSL: error:")).map(str::to_owned))
    })
}

/// A share whose every half is valid, though nobody knows the secret key: zero coefficients and the curve's
/// generator.
fn share(group: &Group) -> Vec<u8> {
    let mlkem = vec![0; group.mlkem_key];
    let Some(curve) = group.classical else { return mlkem };
    let point = generator(curve);
    if group.mlkem_offset() == 0 { [mlkem, point].concat() } else { [point, mlkem].concat() }
}

fn too_short(group: &Group) -> Vec<u8> {
    let mut bytes = share(group);
    bytes.pop();
    bytes
}

/// Each fault with its name.
fn broken(group: &Group) -> Vec<(String, Vec<u8>)> {
    let good = share(group);
    let with = |offset: usize, bytes: &[u8]| {
        let mut changed = good.clone();
        changed[offset..offset + bytes.len()].copy_from_slice(bytes);
        changed
    };
    let mlkem = group.mlkem_offset();
    // Coefficients are 12 bits each, below 3329 = 0xd01; the last 32 bytes are a seed (FIPS 203, section 7.2).
    let last_coefficients = mlkem + group.mlkem_key - 32 - 3;
    let mut faults = vec![
        ("one byte short".to_owned(), too_short(group)),
        ("one byte long".to_owned(), [&good[..], &[0]].concat()),
        ("one byte in all".to_owned(), vec![4]),
        ("only the first half".to_owned(), good[..group.mlkem_key.min(good.len() / 2)].to_vec()),
        ("first coefficient 3329".to_owned(), with(mlkem, &[0x01, 0x0d, 0x00])),
        ("first coefficient 4095".to_owned(), with(mlkem, &[0xff, 0x0f, 0x00])),
        ("last coefficient 3329".to_owned(), with(last_coefficients, &[0x00, 0x10, 0xd0])),
        ("last coefficient 4095".to_owned(), with(last_coefficients, &[0x00, 0xf0, 0xff])),
    ];
    if let (Some(curve), Some(offset)) = (group.classical, group.classical_offset()) {
        let length = curve.share_length();
        let point = generator(curve);
        match curve {
            Curve::X25519 => {
                faults.push(("the all-zero X25519 value".to_owned(), with(offset, &[0; 32])));
                let mut one = [0; 32];
                one[0] = 1;
                faults.push(("an X25519 value of order 4".to_owned(), with(offset, &one)));
            }
            Curve::P256 | Curve::P384 => {
                let mut off = point.clone();
                off[length - 1] ^= 1;
                faults.push(("a point off the curve".to_owned(), with(offset, &off)));
                faults.push(("the point 0, 0".to_owned(), with(offset + 1, &vec![0; length - 1])));
                faults.push((
                    "coordinates beyond the field".to_owned(),
                    with(offset + 1, &vec![0xff; length - 1]),
                ));
                for tag in [0x00, 0x02, 0x03, 0x05, 0x06, 0x07] {
                    faults.push((format!("a point with tag {tag:#04x}"), with(offset, &[tag])));
                }
                let compressed = [&[0x02][..], &point[1..1 + (length - 1) / 2]].concat();
                faults.push(("a compressed point".to_owned(), [&compressed[..], &good[length..]].concat()));
            }
        }
    }
    faults
}

/// The curve's base point as a share has it (RFC 7748, section 4.1; FIPS 186-4, appendix D.1.2).
fn generator(curve: Curve) -> Vec<u8> {
    match curve {
        Curve::X25519 => [&[9][..], &[0; 31]].concat(),
        Curve::P256 => bytes(
            "04\
             6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296\
             4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5",
        ),
        Curve::P384 => bytes(
            "04\
             aa87ca22be8b05378eb1c71ef320ad746e1d3b628ba79b9859f741e082542a385502f25dbf55296c3a545e3872760ab7\
             3617de4a96262c6f5d9e98bf9292dc29f8f41dbd289a147ce9da3113b5f0b8c00a60b1ce1d7e819d7a431d7c90ea0e5f",
        ),
    }
}

fn bytes(hexadecimal: &str) -> Vec<u8> {
    (0..hexadecimal.len())
        .step_by(2)
        .map(|start| u8::from_str_radix(&hexadecimal[start..start + 2], 16).expect("hexadecimal"))
        .collect()
}
