//go:build tools

// Package tools pins the commands that the lab builds.
package tools

import (
	_ "tailscale.com/cmd/derper"
	_ "tailscale.com/cmd/featuretags"
	_ "tailscale.com/cmd/tailscale"
	_ "tailscale.com/cmd/tailscaled"
)
