//! Tests of a running server, over real sockets.

mod canaries;
mod check;
mod conversation;
mod database;
mod deployment;
mod ending;
mod follow_ups;
mod frames;
mod headers;
mod hostile;
mod http;
mod kill;
mod model;
mod names;
mod outside;
mod postgres;
mod process;
mod readers;
mod resume;
mod security;
mod sockets;
mod supabase;
mod text;
