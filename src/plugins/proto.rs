//! Messages as gRPC carries them.

use std::marker::PhantomData;

use prost::Message;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// Writes `W`, reads `R`.
pub(crate) struct Proto<W, R>(PhantomData<(W, R)>);

impl<W, R> Default for Proto<W, R> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<W, R> Codec for Proto<W, R>
where
    W: Message + 'static,
    R: Message + Default + 'static,
{
    type Encode = W;
    type Decode = R;
    type Encoder = Writer<W>;
    type Decoder = Reader<R>;

    fn encoder(&mut self) -> Writer<W> {
        Writer(PhantomData)
    }

    fn decoder(&mut self) -> Reader<R> {
        Reader(PhantomData)
    }
}

/// Writes messages.
pub(crate) struct Writer<W>(PhantomData<W>);

impl<W: Message> Encoder for Writer<W> {
    type Item = W;
    type Error = Status;

    fn encode(&mut self, message: W, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        let written = message.encode(buffer);
        written.map_err(|error| Status::internal(format!("a message is not written: {error}")))
    }
}

/// Reads messages.
pub(crate) struct Reader<R>(PhantomData<R>);

impl<R: Message + Default> Decoder for Reader<R> {
    type Item = R;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<R>, Status> {
        let read = R::decode(buffer);
        read.map(Some)
            .map_err(|error| Status::internal(format!("a message makes no sense: {error}")))
    }
}
