//! Our store's members, connected by plain TCP: as etcd's are here.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use store::{Dialer, Dialling, Peer, Store, StoreConfig, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Dials, and says whose connection it is, which certificates do elsewhere.
struct Plain(Arc<OnceLock<u64>>);

impl Dialer for Plain {
    fn dial(&self, peer: &Peer) -> Dialling {
        let (own, address) = (self.0.get().copied().unwrap_or(0), peer.address.clone());
        Box::pin(async move {
            let mut stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            stream.write_u64(own).await?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

/// Opens a store; with an address for others, as a member of a group.
pub async fn open(dir: &Path, peers: Option<&str>, join: Option<u64>) -> anyhow::Result<Store> {
    let own = Arc::new(OnceLock::new());
    let mut config = StoreConfig::new(dir);
    config.join = join;
    // As etcd without an alarm: neither shall refuse.
    config.quota_bytes = 0;
    let listener = match peers {
        None => None,
        Some(address) => {
            config.here = Peer {
                id: 0,
                name: address.to_owned(),
                address: address.to_owned(),
                ..Peer::default()
            };
            config.dialer = Some(Arc::new(Plain(own.clone())));
            Some(TcpListener::bind(address).await?)
        }
    };
    let store = Store::open(config).await?;
    let _ = own.set(store.member());
    if let Some(listener) = listener {
        tokio::spawn(accept(listener, store.clone()));
    }
    Ok(store)
}

async fn accept(listener: TcpListener, store: Store) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let store = store.clone();
        tokio::spawn(async move {
            stream.set_nodelay(true)?;
            let from = stream.read_u64().await?;
            store.serve_peer(from, Box::new(stream)).await
        });
    }
}
