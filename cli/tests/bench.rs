//! `qtls bench` against a running server, and its errors. Its nginx mode is tested where nginx is, in `tests/`.

mod common;

use std::net::{Ipv4Addr, TcpListener};

use common::{Authority, SServer, Serve, qtls, qtls_error, qtls_json};

#[test]
fn every_group_is_measured_full_and_resumed() {
    let server = Serve::start(&[]);
    let pid = server.child.id().to_string();
    let groups = "X25519,X25519MLKEM768,MLKEM1024";
    let (code, report) = qtls_json(&[
        "bench",
        &server.target(),
        "--groups",
        groups,
        "--pid",
        &pid,
        "--rounds",
        "2",
        "--handshakes",
        "20",
    ]);
    assert_eq!(code, 0);
    let results = report["results"].as_array().unwrap();
    assert_eq!(results.len(), 6);
    for (index, result) in results.iter().enumerate() {
        assert_eq!(result["group"], groups.split(',').nth(index / 2).unwrap());
        assert_eq!(result["kind"], if index % 2 == 0 { "full" } else { "resumed" });
        assert_eq!(result["handshakes"], 40);
        let rounds = result["cpu"]["rounds_us"].as_array().unwrap();
        assert_eq!(rounds.len(), 2);
        assert!(rounds.iter().all(|round| round.as_f64().unwrap() > 1.0), "{result}");
        let latency = |name: &str| result["latency_us"][name].as_f64().unwrap();
        assert!(latency("p50") <= latency("p95") && latency("p95") <= latency("p99"), "{result}");
        assert!(result["handshakes_per_second"].as_f64().unwrap() > 0.0);
    }
    assert_eq!(results[0]["cpu"]["ratio"], 1.0);
}

#[test]
fn without_a_process_there_is_no_cpu_figure_and_the_table_says_so() {
    let server = Serve::start(&[]);
    let output = qtls(&[
        "bench",
        &server.target(),
        "--rounds",
        "1",
        "--handshakes",
        "5",
        "--connections",
        "1",
        "--only",
        "full",
    ]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("without --pid") && !text.contains("Resumed"), "{text}");
}

#[test]
fn a_group_that_the_server_lacks_is_an_error_and_never_a_figure() {
    let server = Serve::start(&["--groups", "X25519"]);
    let said = qtls_error(&["bench", &server.target(), "--groups", "X25519,MLKEM768"]);
    assert!(said.contains("does not take MLKEM768"), "{said}");
}

#[test]
fn a_server_without_tickets_is_an_error_for_resumed_handshakes() {
    let authority = Authority::new();
    let server =
        SServer::start(&authority.self_signed("server"), &["-groups", "X25519", "-num_tickets", "0"]);
    let arguments =
        ["bench", &server.target(), "--groups", "X25519", "--handshakes", "5", "--connections", "1"];
    let said = qtls_error(&arguments);
    assert!(said.contains("was not resumed") && said.contains("--only full"), "{said}");
}

#[test]
fn errors_are_one_line_with_the_way_out() {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let refused = qtls_error(&["bench", &free.to_string()]);
    assert!(refused.contains("nothing listens there"), "{refused}");
    let no_nginx = qtls_error(&["bench", "--nginx", "/nonexistent/nginx", "--conf", "a=-"]);
    assert!(no_nginx.contains("/nonexistent/nginx") && no_nginx.contains("is it installed"), "{no_nginx}");
    let no_conf = qtls_error(&["bench", "--conf", "a=/nonexistent/openssl.cnf"]);
    assert!(no_conf.contains("/nonexistent/openssl.cnf"), "{no_conf}");
    let gone = {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        child.id().to_string()
    };
    let server = Serve::start(&[]);
    let no_process = qtls_error(&["bench", &server.target(), "--pid", &gone]);
    assert!(no_process.contains(&gone), "{no_process}");
}
