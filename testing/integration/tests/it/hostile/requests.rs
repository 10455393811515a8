//! Hostile HTTP requests, and connections that never become one.

use duologue_fuzz::Random;
use duologue_integration::{process::ServerProcess, raw::exchange};
use futures_util::{StreamExt, stream};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::{assert_recovered, doses, honest::Honest, server};

/// Requests of one dose, and how many connections are open at a time.
const REQUESTS: u64 = 1000;
const AT_A_TIME: usize = 8;

const GROWTH_KIB_MAX: u64 = 64 * 1024;

/// Requests, whole and wrong in one way or another.
const SEEDS: [&[u8]; 14] = [
    b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
    b"GET /v1/sessions/s?user_id=alice HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
    b"GET /ws/session/h?user_id=a&after=0&frames=json HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
    b"GET /demo/../../../etc/passwd HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
    b"GET /demo/%2e%2e/%2e%2e/etc/passwd%00 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
    b"GET /demo/..%5c..%5cCargo.toml HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
    b"POST /healthz HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n",
    b"POST /healthz HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ncontent-length: 6\r\nconnection: close\r\n\r\nhello",
    b"POST /healthz HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\nffffffffffffffff\r\n",
    b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n folded: yes\r\nconnection: close\r\n\r\n",
    b"GET /healthz HTTP/9.9\r\nhost: localhost\r\nconnection: close\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"CONNECT evil.test:443 HTTP/1.1\r\nhost: evil.test\r\nconnection: close\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
];

/// Goal: no request takes the process down, grows it, leaks a socket, or is noticed by somebody
/// else. Method: a thousand mutated requests a dose, and beside them every shape of a connection
/// that sends too little.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_hostile_requests_changes_nothing_for_others() {
    let server = server(&[("DUOLOGUE_SERVER__HEADER_READ_TIMEOUT", "500ms")]).await;
    for number in 0..100 {
        attack(&server, u64::MAX - number).await;
    }
    let (descriptors, memory) = (server.file_descriptors(), server.resident_kib());
    let honest = Honest::start(&server).await;
    let slow = slow_connections(&server).await;
    let requests = stream::iter(0..REQUESTS * doses());
    requests
        .for_each_concurrent(AT_A_TIME, |number| attack(&server, number))
        .await;
    honest.finish().await;
    // They are still open on our side; the server has closed its own by itself.
    assert_recovered(&server, descriptors).await;
    drop(slow);
    let grown = server.resident_kib().saturating_sub(memory);
    assert!(
        grown < GROWTH_KIB_MAX,
        "the process has grown by {grown} KiB"
    );
    assert_eq!(server.terminate().await, Some(0));
}

/// Connections that send nothing, half a line, half a head, or part of a body, and then wait.
async fn slow_connections(server: &ServerProcess) -> Vec<TcpStream> {
    let shapes: [&[u8]; 5] = [
        b"",
        b"GET /heal",
        b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"POST /healthz HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\nslow",
    ];
    let mut slow = Vec::new();
    for shape in shapes.iter().cycle().take(200) {
        let stream = TcpStream::connect(server.address()).await;
        let mut stream = stream.expect("the server listens");
        let sent = stream.write_all(shape).await;
        sent.expect("the server reads");
        slow.push(stream);
    }
    slow
}

async fn attack(server: &ServerProcess, number: u64) {
    let mut random = Random::new(number);
    let seed = SEEDS[random.below(SEEDS.len())];
    let mut request = match random.below(8) {
        0 => seed.to_vec(),
        1 => many_headers(&mut random),
        2 => {
            let long = "x".repeat(random.below(40_000));
            format!("GET /{long} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").into()
        }
        _ => random.mutate(seed),
    };
    // Whatever came before, the connection does not stay to be waited for.
    request.extend(b"\r\n\r\nGET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    let answer = exchange(server.address(), &request).await;
    let shown = String::from_utf8_lossy(&request);
    let fault = answer.lines().find(|line| line.starts_with("HTTP/1.1 5"));
    assert_eq!(fault, None, "{shown:?}");
    assert!(!answer.contains("root:"), "{shown:?} gives away a file");
}

fn many_headers(random: &mut Random) -> Vec<u8> {
    let mut request = String::from("GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
    for number in 0..random.below(200) {
        let value = "y".repeat(random.below(200));
        request.extend(["x-", &number.to_string(), ": ", &value, "\r\n"]);
    }
    (request + "\r\n").into()
}
