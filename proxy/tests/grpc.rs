//! gRPC as its users have it: a server and a client of tonic's, with the proxy between them.

mod support;

use lapstrake_core::ids::JobId;
use lapstrake_core::routes::{RouteTable, Speaks};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use support::{HOST, Harness, backend, soon, table};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

#[derive(Clone, PartialEq, prost::Message)]
struct Word {
    #[prost(string, tag = "1")]
    text: String,
}

fn word(text: impl Into<String>) -> Word {
    Word { text: text.into() }
}

type Words = Pin<Box<dyn tokio_stream::Stream<Item = Result<Word, Status>> + Send>>;

/// The four kinds of calls.
#[derive(Clone)]
struct Echo;

impl tonic::server::NamedService for Echo {
    const NAME: &'static str = "test.Echo";
}

#[derive(Clone)]
struct Unary;

impl tonic::server::UnaryService<Word> for Unary {
    type Response = Word;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Word>, Status>> + Send>>;

    fn call(&mut self, request: Request<Word>) -> Self::Future {
        Box::pin(async move {
            match request.into_inner().text.as_str() {
                "fail" => Err(Status::with_details(Code::FailedPrecondition, "it is closed", vec![1, 2].into())),
                text => Ok(Response::new(word(format!("{text}!")))),
            }
        })
    }
}

/// Says every word of a text.
struct Split;

impl tonic::server::ServerStreamingService<Word> for Split {
    type Response = Word;
    type ResponseStream = Words;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Words>, Status>> + Send>>;

    fn call(&mut self, request: Request<Word>) -> Self::Future {
        Box::pin(async move {
            let words: Vec<_> = request.into_inner().text.split(' ').map(|part| Ok(word(part))).collect();
            Ok(Response::new(Box::pin(tokio_stream::iter(words)) as Words))
        })
    }
}

/// Joins what it hears.
struct Join;

impl tonic::server::ClientStreamingService<Word> for Join {
    type Response = Word;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Word>, Status>> + Send>>;

    fn call(&mut self, request: Request<Streaming<Word>>) -> Self::Future {
        Box::pin(async move {
            let mut heard = request.into_inner();
            let mut text = String::new();
            while let Some(one) = heard.message().await? {
                text.push_str(&one.text);
            }
            Ok(Response::new(word(text)))
        })
    }
}

/// Answers each word as it comes.
struct Chat;

impl tonic::server::StreamingService<Word> for Chat {
    type Response = Word;
    type ResponseStream = Words;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Words>, Status>> + Send>>;

    fn call(&mut self, request: Request<Streaming<Word>>) -> Self::Future {
        let answers = request.into_inner().map(|heard| heard.map(|one| word(format!("re: {}", one.text))));
        Box::pin(async move { Ok(Response::new(Box::pin(answers) as Words)) })
    }
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(ProstCodec::<Word, Word>::default());
            Ok(match request.uri().path() {
                "/test.Echo/Split" => grpc.server_streaming(Split, request).await,
                "/test.Echo/Join" => grpc.client_streaming(Join, request).await,
                "/test.Echo/Chat" => grpc.streaming(Chat, request).await,
                _ => grpc.unary(Unary, request).await,
            })
        })
    }
}

async fn server() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(Server::builder().add_service(Echo).serve_with_incoming(TcpListenerStream::new(listener)));
    address
}

fn routes(generation: u64, address: Option<SocketAddr>) -> RouteTable {
    let mut routes = table(generation, &[]);
    routes.routes[0].backends = address.into_iter().map(|address| backend(JobId(1), address, Speaks::H2c)).collect();
    routes
}

struct Caller(tonic::client::Grpc<Channel>);

impl Caller {
    async fn new(harness: &Harness) -> Caller {
        let endpoint = Endpoint::from_shared(format!("http://{}", harness.address())).unwrap();
        let channel = endpoint.origin(format!("http://{HOST}").parse().unwrap()).connect().await.unwrap();
        Caller(tonic::client::Grpc::new(channel))
    }

    async fn unary(&mut self, text: &str) -> Result<String, Status> {
        self.0.ready().await.unwrap();
        let path = http::uri::PathAndQuery::from_static("/test.Echo/Say");
        let said = self.0.unary(Request::new(word(text)), path, ProstCodec::<Word, Word>::default());
        soon("an answer", said).await.map(|response| response.into_inner().text)
    }
}

#[tokio::test]
async fn calls_of_all_four_kinds_pass_with_their_statuses() {
    let harness = Harness::start().await;
    harness.agent().await.switch(&routes(1, Some(server().await))).await;
    let mut caller = Caller::new(&harness).await;
    assert_eq!(caller.unary("hello").await.unwrap(), "hello!");
    let failed = caller.unary("fail").await.unwrap_err();
    assert_eq!(
        (failed.code(), failed.message(), failed.details()),
        (Code::FailedPrecondition, "it is closed", &[1, 2][..])
    );

    let codec = ProstCodec::<Word, Word>::default;
    let path = http::uri::PathAndQuery::from_static;
    caller.0.ready().await.unwrap();
    let split =
        caller.0.server_streaming(Request::new(word("a b c")), path("/test.Echo/Split"), codec()).await.unwrap();
    let parts: Vec<String> = soon("the words", split.into_inner().map(|part| part.unwrap().text).collect()).await;
    assert_eq!(parts, ["a", "b", "c"]);

    caller.0.ready().await.unwrap();
    let words = tokio_stream::iter(["x", "y", "z"].map(word));
    let joined = caller.0.client_streaming(Request::new(words), path("/test.Echo/Join"), codec()).await.unwrap();
    assert_eq!(joined.into_inner().text, "xyz");

    caller.0.ready().await.unwrap();
    let (say, said) = mpsc::channel(1);
    let chat = caller.0.streaming(Request::new(ReceiverStream::new(said)), path("/test.Echo/Chat"), codec());
    let mut chat = soon("the chat", chat).await.unwrap().into_inner();
    for text in ["one", "two"] {
        say.send(word(text)).await.unwrap();
        assert_eq!(soon("an answer", chat.message()).await.unwrap().unwrap().text, format!("re: {text}"));
    }
    drop(say);
    assert!(soon("the end", chat.message()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_service_without_a_job_is_unavailable_in_the_words_of_grpc() {
    let harness = Harness::start().await;
    harness.agent().await.switch(&routes(1, None)).await;
    let mut caller = Caller::new(&harness).await;
    let status = caller.unary("hello").await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("no job of shop/production/web on node-a"), "{status:?}");
}

#[tokio::test]
async fn a_job_that_speaks_another_protocol_is_named_as_such() {
    let job = support::Job::start(1).await;
    let harness = Harness::start().await;
    harness.agent().await.switch(&routes(1, Some(job.address))).await;
    let status = Caller::new(&harness).await.unary("hello").await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("does not speak HTTP/2"), "{status:?}");
}
