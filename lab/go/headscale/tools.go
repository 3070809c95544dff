//go:build tools

// Package tools pins the command that the lab builds.
package tools

import _ "github.com/juanfont/headscale/cmd/headscale"
