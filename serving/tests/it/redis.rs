//! Answers that replicas share in a real Redis, and Redis that goes away.

use std::time::Instant;

use e2e::redis::Server as Redis;

use crate::server::{Server, said, sample};

#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_answers_and_miss_redis_only_as_a_cache() {
    let port = e2e::free_port().unwrap();
    let redis = Redis::start_on(port).await.unwrap();
    let replica = async || {
        let url = redis.url();
        Server::start(|options| {
            options.cache.redis = Some(url);
            // Long for a start of a connection on a busy machine, short for a test.
            options.cache.redis_timeout = std::time::Duration::from_secs(2);
        })
        .await
    };
    let (one, two) = (replica().await, replica().await);
    let picture = sample("farmyard/cow.jpg");
    let first = one.found(&picture).await;
    assert_eq!(first["media"][0]["cached"], false);
    let pushed = async || {
        let answer = two.found(&picture).await;
        assert_eq!(said(&answer), said(&first));
        two.metric("safari_serving_cache_total{cache=\"redis\",outcome=\"hit\"}").await == 1.0
    };
    // It is written while the caller is answered already. A miss keeps the answer in this one's memory.
    if !pushed().await {
        let other = replica().await;
        let taken = other.found(&picture).await;
        assert_eq!((said(&taken), &taken["media"][0]["cached"]), (said(&first), &true.into()));
    }

    drop(redis);
    for name in ["farmyard/pig.jpg", "farmyard/dog.jpg", "farmyard/cat.jpg"] {
        let began = Instant::now();
        let answer = one.found(&sample(name)).await;
        assert_eq!(answer["media"][0]["category"], "animal", "{name}: {answer}");
        assert!(began.elapsed().as_secs() < 30, "{name}");
    }
    assert!(one.metric("safari_serving_redis_failures_total").await >= 1.0);
    assert_eq!(one.get("/healthz/ready").await.status(), 200);

    // It is used again when it is back.
    let _again = Redis::start_on(port).await.unwrap();
    let misses = "safari_serving_cache_total{cache=\"redis\",outcome=\"miss\"}";
    let hits = "safari_serving_cache_total{cache=\"redis\",outcome=\"hit\"}";
    let fresh = Server::start(|options| {
        options.cache.redis = Some(format!("redis://127.0.0.1:{port}/0"));
        options.cache.redis_timeout = std::time::Duration::from_secs(2);
        // Only Redis has anything.
        options.cache.bytes = 0;
    })
    .await;
    let hedgehog = sample("garden/hedgehog.jpg");
    let taken = async || {
        fresh.found(&hedgehog).await;
        fresh.metric(hits).await >= 1.0
    };
    fresh.wait_for("Redis is used again", taken).await;
    assert!(fresh.metric(misses).await >= 1.0);
}
