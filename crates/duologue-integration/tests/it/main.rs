//! Tests of a running server, over real sockets.

mod auth;
mod check;
mod conversation;
mod database;
mod deployment;
mod ending;
mod follow_ups;
mod frames;
mod http;
mod kill;
mod model;
mod outside;
mod postgres;
mod readers;
mod resume;
mod sockets;
mod supabase;
mod text;
