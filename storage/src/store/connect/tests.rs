//! What each provider's settings make of the requests, against a server that says what came.

use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode, PutOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;

fn options() -> StoreOptions {
    StoreOptions {
        read_only: false,
        reserve_bytes: 0,
        requests: RequestSettings {
            attempts: 1,
            ..RequestSettings::standard()
        },
    }
}

async fn refused(text: &str) -> String {
    let url = StoreUrl::parse(text).unwrap();
    let opened = open(&env::real::env(), &url, options()).await;
    opened.expect_err("must be refused").to_string()
}

/// Answers one request with `answer`; gives the request's head.
async fn server(answer: &'static str) -> (u16, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"hello") {
            assert!(socket.read_buf(&mut seen).await.unwrap() > 0, "cut short");
        }
        socket.write_all(answer.as_bytes()).await.unwrap();
        socket.shutdown().await.unwrap();
        String::from_utf8(seen).unwrap()
    });
    (port, task)
}

const STORED: &str = "HTTP/1.1 201 Created\r\nETag: \"1\"\r\nx-goog-generation: 7\r\n\
     Last-Modified: Mon, 02 Jan 2023 15:04:05 GMT\r\nContent-Length: 0\r\n\r\n";
const EXISTS: &str = "HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0\r\n\r\n";
const CONFLICT: &str = "HTTP/1.1 409 Conflict\r\nContent-Length: 0\r\n\r\n";

/// Creates an object at `url` with PORT in it filled in; the outcome, and the request's head.
async fn create(url: &str, answer: &'static str) -> (object_store::Result<()>, String) {
    let (port, task) = server(answer).await;
    let url = StoreUrl::parse(&url.replace("PORT", &port.to_string())).unwrap();
    let opened = open(&env::real::env(), &url, options()).await.unwrap();
    let path = Path::from(format!("{}/x", opened.prefix));
    let create = PutOptions::from(PutMode::Create);
    let put = opened.store.put_opts(&path, "hello".into(), create).await;
    (put.map(drop), task.await.unwrap().to_lowercase())
}

const GCS: &str = "gs://b/p?endpoint=http://127.0.0.1:PORT&allow_http=true&skip_signature=true";
const AZURE: &str = "az://c/p?endpoint=http://127.0.0.1:PORT/acc&allow_http=true\
     &account_name=acc&account_key=aHVzaA==";

#[tokio::test]
async fn gcs_is_reached_at_an_endpoint_by_anonymous_conditional_creates() {
    let (put, head) = create(GCS, STORED).await;
    put.unwrap();
    assert!(head.starts_with("put /b/p%2fx http/1.1\r\n"), "{head}");
    assert!(head.contains("x-goog-if-generation-match: 0\r\n"), "{head}");
    let (put, _) = create(GCS, EXISTS).await;
    assert!(matches!(
        put,
        Err(object_store::Error::AlreadyExists { .. })
    ));
}

#[tokio::test]
async fn azure_is_reached_at_an_endpoint_by_signed_conditional_creates() {
    let (put, head) = create(AZURE, STORED).await;
    put.unwrap();
    assert!(head.starts_with("put /acc/c/p/x http/1.1\r\n"), "{head}");
    assert!(head.contains("if-none-match: *\r\n"), "{head}");
    assert!(head.contains("authorization: sharedkey acc:"), "{head}");
    for answer in [EXISTS, CONFLICT] {
        let (put, _) = create(AZURE, answer).await;
        assert!(matches!(
            put,
            Err(object_store::Error::AlreadyExists { .. })
        ));
    }
}

#[tokio::test]
async fn settings_of_the_client_are_not_passed_over() {
    for url in [
        "s3://b/p?endpoint=http://127.0.0.1:PORT&allow_http=true&region=r&skip_signature=true",
        GCS,
        AZURE,
    ] {
        let (put, head) = create(&format!("{url}&user_agent=witness"), STORED).await;
        put.unwrap();
        assert!(head.contains("user-agent: witness\r\n"), "{head}");
        let broken = refused(&format!("{url}&timeout=soon").replace("PORT", "9")).await;
        assert!(broken.contains("soon"), "{broken}");
    }
}

#[tokio::test]
async fn plain_http_is_only_spoken_when_allowed() {
    for url in [GCS, AZURE] {
        let url = url.replace("&allow_http=true", "").replace("PORT", "9");
        let url = StoreUrl::parse(&url).unwrap();
        let opened = open(&env::real::env(), &url, options()).await;
        let store = opened.unwrap().store;
        let error = store.get(&Path::from("p/x")).await.unwrap_err();
        let error = format!("{error:?}").to_lowercase();
        assert!(error.contains("scheme"), "{error}");
    }
}

#[tokio::test]
async fn an_emulator_beside_an_endpoint_is_refused() {
    let error = refused("az://c/p?use_emulator=true&endpoint=http://127.0.0.1:9/acc").await;
    assert!(error.contains("AZURITE_BLOB_STORAGE_URL"), "{error}");
    let error = refused("gs://b?skip_signature=maybe").await;
    assert!(error.contains("true or false"), "{error}");
    let error = refused("gs://b?endpont=http://127.0.0.1:9").await;
    assert!(error.contains("endpont"), "{error}");
}
