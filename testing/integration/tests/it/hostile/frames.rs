//! Hostile WebSocket frames.

use duologue_fuzz::Random;
use duologue_integration::{process::ServerProcess, raw::Handshake};
use futures_util::{StreamExt, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{assert_recovered, doses, honest::Honest, server};

/// Frames of one connection; the last of them ends it.
const FRAMES: usize = 250;
/// Connections of one dose, and how many of them are open at a time.
const CONNECTIONS: u64 = 40;
const AT_A_TIME: usize = 8;

/// How much the process may grow: what a few sessions hold, and not what was thrown at it.
const GROWTH_KIB_MAX: u64 = 64 * 1024;

/// Goal: no sequence of frames takes the process down, grows it, leaks a socket, or is noticed by
/// somebody else. Method: ten thousand generated frames a dose, over connections that each end in
/// another violation.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_hostile_frames_changes_nothing_for_others() {
    let server = server(&[]).await;
    warm_up(&server).await;
    let (descriptors, memory) = (server.file_descriptors(), server.resident_kib());
    let honest = Honest::start(&server).await;
    let connections = CONNECTIONS * doses();
    let refused: usize = stream::iter(0..connections)
        .map(|number| attack(&server, number))
        .buffer_unordered(AT_A_TIME)
        .fold(0, async |sum, refused| sum + refused)
        .await;
    honest.finish().await;
    assert_recovered(&server, descriptors).await;
    let frames = usize::try_from(connections).unwrap() * FRAMES;
    assert!(
        refused > frames / 4,
        "of {frames} frames only {refused} were refused one by one"
    );
    let grown = server.resident_kib().saturating_sub(memory);
    assert!(
        grown < GROWTH_KIB_MAX,
        "the process has grown by {grown} KiB"
    );
    assert_eq!(server.terminate().await, Some(0));
}

/// Lets the process take what it needs once.
async fn warm_up(server: &ServerProcess) {
    for number in 0..AT_A_TIME as u64 {
        attack(server, u64::MAX - number).await;
    }
    assert_recovered(server, server.file_descriptors()).await;
}

/// Returns how many frames were refused one by one, as far as was listened.
async fn attack(server: &ServerProcess, number: u64) -> usize {
    let mut random = Random::new(number);
    let session = format!("hostile-{number}");
    let connection = Handshake::at(server.address(), &session, "mallory").await;
    let mut bytes = Vec::new();
    for _ in 1..FRAMES {
        harmful(&mut random, &mut bytes);
    }
    let is_reset = violation(&mut random, &mut bytes);
    let (mut read, mut write) = connection.stream.into_split();
    // What comes back is read, or this would be an attack by not reading.
    let mut answers = Vec::new();
    let reading = async {
        // An end by a reset is an end as well.
        let _end = read.read_to_end(&mut answers).await;
    };
    let writing = async {
        // The server closes when it has seen enough; then there is nobody to write to.
        let _refused = write.write_all(&bytes).await;
        let _refused = write.shutdown().await;
    };
    if is_reset {
        tokio::select! {
            () = reading => {}
            () = writing => {}
        }
        // Unread answers make the system send a reset in place of an end.
        return 0;
    }
    tokio::join!(reading, writing);
    String::from_utf8_lossy(&answers)
        .matches(r#""type":"error""#)
        .count()
}

/// A frame that is refused or ignored, and leaves the connection open.
fn harmful(random: &mut Random, bytes: &mut Vec<u8>) {
    match random.below(12) {
        0 => frame(random, 0x89, b"", bytes),
        1 => frame(random, 0x89, &[b'x'; 125], bytes),
        2 => frame(random, 0x8a, b"unasked", bytes),
        3 => frame(random, 0x82, b"\0\x01binary\xff", bytes),
        4 => {
            // One message in pieces of one byte, with a ping in its middle.
            let text = br#"{"type":"not_a_frame"}"#;
            for (index, byte) in text.iter().enumerate() {
                let is_last = index + 1 == text.len();
                let opcode = u8::from(index == 0) | u8::from(is_last) << 7;
                frame(random, opcode, &[*byte], bytes);
                if index == text.len() / 2 {
                    frame(random, 0x89, b"", bytes);
                }
            }
        }
        5 => {
            let deep = format!(r#"{{"type":{}"#, "[".repeat(2000));
            frame(random, 0x81, deep.as_bytes(), bytes);
        }
        6 => {
            let large = format!(r#"{{"type":"cancel","n":1e999{}}}"#, "9".repeat(500));
            frame(random, 0x81, large.as_bytes(), bytes);
        }
        7 => frame(random, 0x81, b"", bytes),
        8 => frame(random, 0x81, br#"{"type":"auth","token":"forged"}"#, bytes),
        _ => {
            let seeds: [&[u8]; 6] = [
                br#"{"type":"message","message":"hi","id":"m-1"}"#,
                br#"{"type":"message","message":"hi","id":"m-1","on_busy":"queue"}"#,
                br#"{"message":{"deep":[[[[]]]]}}"#,
                br#"{"type":"cancel"}"#,
                br#"{"type":"ping","x":"\ud800"}"#,
                br#"{"type":1e400,"message":-0.0}"#,
            ];
            let seed = seeds[random.below(seeds.len())];
            let mutated = random.mutate(seed);
            // Bad UTF-8 would end the connection; that comes last.
            let text = String::from_utf8_lossy(&mutated).into_owned();
            frame(random, 0x81, text.as_bytes(), bytes);
        }
    }
}

/// What ends the connection. Returns whether the client itself cuts it off.
fn violation(random: &mut Random, bytes: &mut Vec<u8>) -> bool {
    match random.below(12) {
        // Unmasked.
        0 => bytes.extend(b"\x81\x05hello"),
        // Each of the reserved bits.
        1 => frame(random, 0xc1, b"x", bytes),
        2 => frame(random, 0xa1, b"x", bytes),
        3 => frame(random, 0x91, b"x", bytes),
        // An opcode that nobody has given a meaning.
        4 => frame(random, 0x83, b"x", bytes),
        // Control frames that are too long, or in pieces.
        5 => frame(random, 0x89, &[b'x'; 126], bytes),
        6 => frame(random, 0x09, b"x", bytes),
        // Bad UTF-8: at once, and in a message's second piece.
        7 => frame(random, 0x81, b"\xff\xfe", bytes),
        8 => {
            frame(random, 0x01, b"good", bytes);
            frame(random, 0x80, b"\xc3\x28", bytes);
        }
        // A continuation of nothing.
        9 => frame(random, 0x80, b"x", bytes),
        // A frame of 2⁶⁰ bytes, of which the first come.
        10 => {
            bytes.extend(b"\x81\xff\x10\0\0\0\0\0\0\0\0\0\0\0");
            bytes.extend([b'x'; 4096]);
        }
        // A frame that is never finished: the client goes away in its middle.
        _ => {
            frame(random, 0x81, &[b'x'; 1000], bytes);
            bytes.truncate(bytes.len() - 500);
            return true;
        }
    }
    false
}

/// Appends a masked frame.
fn frame(random: &mut Random, first: u8, payload: &[u8], bytes: &mut Vec<u8>) {
    bytes.push(first);
    let length = u16::try_from(payload.len()).expect("what is sent here is short");
    // The highest bit says that the payload is masked.
    if let Ok(length @ 0..=125) = u8::try_from(length) {
        bytes.push(0x80 | length);
    } else {
        bytes.push(0xfe);
        bytes.extend(length.to_be_bytes());
    }
    let [mask @ .., _, _, _, _] = random.next().to_be_bytes();
    bytes.extend::<[u8; 4]>(mask);
    let masked = payload.iter().zip(mask.iter().cycle());
    bytes.extend(masked.map(|(byte, mask)| byte ^ mask));
}
