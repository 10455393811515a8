//! One connection: just enough of HTTP/1.1 to answer our HTTP client.

use std::{future::pending, io};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
};

use crate::testing::{
    script::{Script, Step},
    shared::{RecordedRequest, RequestStatus, Shared},
};

/// Far more than any test sends.
const REQUEST_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How a script came to its end.
enum Played {
    /// The next request may come.
    Complete,
    /// The script wants the connection closed.
    Close,
    /// The script wants it reset.
    Reset,
    ClosedByClient,
}

/// Answers one request after the other, until either side closes the connection.
pub(super) async fn serve(
    mut socket: TcpStream,
    connection: usize,
    shared: &Shared,
) -> io::Result<()> {
    let mut unread = Vec::new();
    while let Some(request) = read_request(&mut socket, &mut unread, connection).await? {
        let (index, script) = begin(shared, request);
        let played = play(&mut socket, &script, shared).await;
        let status = match played {
            Played::ClosedByClient => RequestStatus::ClosedByClient,
            Played::Complete | Played::Close | Played::Reset => RequestStatus::Answered,
        };
        shared.send_modify(|state| state.requests[index].status = status);
        match played {
            Played::Complete => {}
            Played::Close | Played::ClosedByClient => return Ok(()),
            Played::Reset => return socket.set_zero_linger(),
        }
    }
    Ok(())
}

/// Records a request, and takes its script.
fn begin(shared: &Shared, request: RecordedRequest) -> (usize, Script) {
    let wants_answer = request.method == "POST" && request.path.contains("/chat/completions");
    let wants_models = request.method == "GET" && request.path.contains("/models");
    let mut taken = (0, None);
    shared.send_modify(|state| {
        let script = if wants_answer {
            let mut about = state.about.iter();
            let about = about.find(|(words, _)| request.last_message().contains(words));
            about
                .map(|(_, script)| script.clone())
                .or_else(|| state.scripts.pop_front())
                .or_else(|| state.otherwise.clone())
        } else {
            let models = state.models.clone().filter(|_| wants_models);
            models.or_else(|| Some(Script::error(404, "nothing is here")))
        };
        taken = (state.requests.len(), script);
        state.requests.push(request);
    });
    let (index, script) = taken;
    (
        index,
        script.unwrap_or_else(|| Script::error(400, "no script was made for this request")),
    )
}

async fn play(socket: &mut TcpStream, script: &Script, shared: &Shared) -> Played {
    let (mut reading, mut writing) = socket.split();
    let steps = async {
        for step in &script.steps {
            match step {
                Step::Head { status, headers } => head(&mut writing, *status, headers).await?,
                Step::Bytes(bytes) => chunk(&mut writing, bytes).await?,
                Step::Hold(name) => hold(shared, name).await,
                Step::Stall => pending().await,
                Step::Close => return Ok(Played::Close),
                Step::Reset => return Ok(Played::Reset),
            }
        }
        let has_head = script
            .steps
            .iter()
            .any(|step| matches!(step, Step::Head { .. }));
        if !has_head {
            return Ok(Played::Close);
        }
        writing.write_all(b"0\r\n\r\n").await?;
        Ok::<_, io::Error>(Played::Complete)
    };
    tokio::select! {
        // What a client has closed cannot be written to either.
        played = steps => played.unwrap_or(Played::ClosedByClient),
        () = closed(&mut reading) => Played::ClosedByClient,
    }
}

async fn hold(shared: &Shared, name: &str) {
    let mut changes = shared.subscribe();
    let released = changes
        .wait_for(|state| state.released.contains(name))
        .await;
    drop(released.expect("the sender is at hand"));
}

async fn head(
    socket: &mut WriteHalf<'_>,
    status: u16,
    headers: &[(String, String)],
) -> io::Result<()> {
    let mut head = format!("HTTP/1.1 {status} Scripted\r\ntransfer-encoding: chunked\r\n");
    for (name, value) in headers {
        head.extend([name, ": ", value, "\r\n"]);
    }
    head.push_str("\r\n");
    socket.write_all(head.as_bytes()).await
}

async fn chunk(socket: &mut WriteHalf<'_>, bytes: &[u8]) -> io::Result<()> {
    // An empty chunk would end the body.
    if bytes.is_empty() {
        return Ok(());
    }
    let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
    chunk.extend_from_slice(bytes);
    chunk.extend_from_slice(b"\r\n");
    socket.write_all(&chunk).await
}

/// Waits until the client closes or resets the connection. It has nothing else to send meanwhile.
async fn closed(socket: &mut ReadHalf<'_>) {
    let mut unexpected = [0; 64];
    while matches!(socket.read(&mut unexpected).await, Ok(1..)) {}
}

/// Reads the next request; none if the client closed the connection instead.
async fn read_request(
    socket: &mut TcpStream,
    unread: &mut Vec<u8>,
    connection: usize,
) -> io::Result<Option<RecordedRequest>> {
    loop {
        if let Some((mut request, head_bytes)) = parse_head(unread, connection) {
            let length = request
                .header("content-length")
                .and_then(|value| value.parse().ok());
            let bytes = head_bytes + length.unwrap_or(0);
            if unread.len() >= bytes {
                request.body =
                    serde_json::from_slice(&unread[head_bytes..bytes]).unwrap_or(Value::Null);
                unread.drain(..bytes);
                return Ok(Some(request));
            }
        }
        if unread.len() > REQUEST_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if socket.read_buf(unread).await? == 0 {
            return Ok(None);
        }
    }
}

/// The head of a request and its length, if all of it is there.
fn parse_head(bytes: &[u8], connection: usize) -> Option<(RecordedRequest, usize)> {
    let end = memchr::memmem::find(bytes, b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]);
    let mut lines = head.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let request = RecordedRequest {
        method: words.next()?.to_owned(),
        path: words.next()?.to_owned(),
        headers: lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect(),
        body: Value::Null,
        connection,
        status: RequestStatus::Answering,
    };
    Some((request, end + 4))
}
