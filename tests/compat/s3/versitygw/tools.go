//go:build tools

// Package tools pins versitygw, an S3 server, for the compatibility run.
package tools

import _ "github.com/versity/versitygw/cmd/versitygw"
