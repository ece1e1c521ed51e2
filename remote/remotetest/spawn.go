package remotetest

import (
	"os/exec"
	"runtime"
)

// startLocked starts cmd from a thread that lives as long as cmd: the kernel sends Pdeathsig when the thread ends that
// started the process, not the process. The channel is closed when cmd has ended.
func startLocked(cmd *exec.Cmd) (<-chan struct{}, error) {
	started, exited := make(chan error, 1), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			cmd.Wait() // how a server ends when it is killed is of no interest
		}
		close(exited)
	}()
	return exited, <-started
}
