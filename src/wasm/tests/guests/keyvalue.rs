//! Buckets of values: what several instances count together.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use coracle_wasm::{Bucket, Buckets, Edit, KeyValueError, Values};

use crate::support::{compile_text, host, spec};

/// Opens the bucket `counts` and adds 1 to `hits`, so often; ends with code 1 if something refuses.
fn counter(times: u32) -> String {
    include_str!("../../../../tests/programs/counter.wat").replace("TIMES", &times.to_string())
}

#[derive(Debug)]
struct One(Arc<Kept>);

#[derive(Debug, Default)]
struct Kept(Mutex<Values>);

#[async_trait]
impl Buckets for One {
    async fn open(&self, name: &str) -> Result<Arc<dyn Bucket>, KeyValueError> {
        match name {
            "counts" => Ok(self.0.clone()),
            _ => Err(KeyValueError::NoSuchStore),
        }
    }
}

#[async_trait]
impl Bucket for Kept {
    async fn read(&self) -> Result<Values, KeyValueError> {
        Ok(self.0.lock().unwrap().clone())
    }

    async fn change(&self, edit: Arc<Edit>) -> Result<u64, KeyValueError> {
        edit(&mut self.0.lock().unwrap())
    }
}

#[tokio::test]
async fn instances_count_together_in_what_they_were_granted() {
    let host = host();
    let program = compile_text(&host, &counter(7)).await;
    let kept = Arc::new(Kept::default());
    for _ in 0..3 {
        let mut given = spec(&[]).spec;
        given.buckets = Some(Arc::new(One(kept.clone())));
        let exit = host.start(&program, given).await.unwrap().wait().await;
        assert_eq!(exit.code, 0, "{exit:?}");
    }
    assert_eq!(kept.0.lock().unwrap()["hits"], b"21");
    let exit = host.start(&program, spec(&[]).spec).await.unwrap().wait().await;
    assert_eq!(exit.code, 1, "nothing was granted: {exit:?}");
}
