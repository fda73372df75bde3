//! Protobuf bodies → JSON values, driven by the schema's field numbers.
