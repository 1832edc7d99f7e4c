// A web service with a flow inside: events come in by HTTP and are acknowledged when they are
// durable; results of the windows are served from memory.
//
//   POST /clicks   [{"user":"ann","at":"2026-01-01T00:00:00Z"}, ..]
//   GET  /minutes  [{"key":"ann","window":{..},"value":2}, ..]
//
// Run it: cargo run --release -p highwater --example service
// With `--once` it takes any free port, sends itself a few clicks, prints the answers and stops.
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use highwater::prelude::*;
use highwater::{sink, source};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

type BoxResult<T> = Result<T, BoxError>;

#[derive(Clone, Serialize, Deserialize)]
struct Click {
    user: String,
    at: EventTime,
}

type PerMinute = WindowResult<String, u64>;

/// By window and key: a result that comes again after a crash replaces itself.
type Results = Arc<Mutex<BTreeMap<(Window, String), PerMinute>>>;

#[derive(Clone)]
struct Service {
    clicks: source::ChannelSender<Click>,
    results: Results,
}

/// Answers only when every click is durable: whoever gets no such answer sends them again.
async fn post_clicks(State(service): State<Service>, Json(clicks): Json<Vec<Click>>) -> StatusCode {
    let mut last = None;
    for click in clicks {
        match service.clicks.send(click).await {
            Ok(receipt) => last = Some(receipt),
            Err(_) => return StatusCode::SERVICE_UNAVAILABLE,
        }
    }
    // Events become durable in the order in which they were sent.
    let Some(receipt) = last else { return StatusCode::OK };
    match receipt.durable().await {
        Ok(()) => StatusCode::OK,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

async fn get_minutes(State(service): State<Service>) -> Json<Vec<PerMinute>> {
    let results = service.results.lock().unwrap_or_else(PoisonError::into_inner);
    Json(results.values().cloned().collect())
}

/// The flow, running, and the router in front of it.
fn start(state: &Path) -> Result<(Handle, Router), Error> {
    let (clicks, source) = source::channel::<Click>(10_000);
    let (sink, mut received) = sink::channel::<PerMinute>();
    let flow = Flow::new("clicks");
    flow.source("clicks", source)
        .event_time(|c| c.at, Disorder::at_most(seconds(5)))
        .key_by(|c| &c.user)
        .window("per-minute", Tumbling::of(minutes(1)))
        .aggregate(Count)
        .drop_late("a click more than five seconds late is not worth a correction")
        .sink("results", sink);
    let settings = Settings::at(state).commit_interval(Duration::from_millis(20));
    let handle = flow.spawn(settings)?;

    let results = Results::default();
    let service = Service { clicks, results: results.clone() };
    tokio::spawn(async move {
        while let Some(result) = received.recv().await {
            let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
            results.insert((result.window, result.key.clone()), result);
        }
    });
    let router = Router::new()
        .route("/clicks", post(post_clicks))
        .route("/minutes", get(get_minutes))
        .with_state(service);
    Ok((handle, router))
}

async fn serve() -> BoxResult<()> {
    let (handle, router) = start(Path::new("out/service/state"))?;
    let listener = TcpListener::bind("127.0.0.1:7070").await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, router)
        .with_graceful_shutdown(async {
            // An error means that no signal will ever come: serve on.
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
        })
        .await?;
    let metrics = handle.shutdown().await?;
    println!("stopped after tick {}", metrics.committed);
    Ok(())
}

async fn once() -> BoxResult<()> {
    let state = tempfile::tempdir()?;
    let (handle, router) = start(state.path())?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server = tokio::spawn(async move { axum::serve(listener, router).await });

    let click = |user: &str, second: i64| Click {
        user: user.to_owned(),
        at: EventTime::from_seconds(second),
    };
    // The last click moves the watermark to 01:05, past the end of the first minute.
    let clicks = [click("ann", 1), click("bob", 30), click("ann", 59), click("ann", 70)];
    let body = serde_json::to_string(&clicks)?;
    println!("POST /clicks   {}", request(address, "POST", "/clicks", &body).await?);
    let mut minutes = String::new();
    for _ in 0..200 {
        minutes = request(address, "GET", "/minutes", "").await?;
        if minutes.contains("bob") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("GET /minutes   {minutes}");
    server.abort();
    let metrics = handle.shutdown().await?;
    let window = metrics.operator("per-minute").map(|o| o.counters).unwrap_or_default();
    println!("shutdown       {} clicks in, {} used", window.events_in, window.used);
    Ok(())
}

/// The least HTTP client that will do: the body of the answer, or its status line if it has none.
async fn request(
    address: std::net::SocketAddr,
    method: &str,
    path: &str,
    body: &str,
) -> BoxResult<String> {
    let mut stream = TcpStream::connect(address).await?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.lines().next().unwrap_or_default();
    Ok(if body.is_empty() { status.to_owned() } else { body.to_owned() })
}

#[tokio::main]
async fn main() -> BoxResult<()> {
    if std::env::args().any(|arg| arg == "--once") { once().await } else { serve().await }
}
