// What one writes in Go: a goroutine for each connection, one bounded channel, and one goroutine that takes
// everything and writes it to a file. benches/peers.sh builds and measures it.
//
//	receiver ADDRESS FILE lines|chunks
//
// lines is what everybody writes first: bufio.Scanner, and a copy of each line into the channel. chunks is a good
// one: large reads, cut behind the last delimiter, and whole runs of lines in the channel.
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
)

// Lines in the channel.
const inChannel = 1024

// The largest line, as fanin's default.
const largest = 64 << 10

// Of one read, and so many runs as are 4 MiB in the channel: fanin's ring.
const (
	chunk  = 64 << 10
	chunks = 64
)

func lines(conn net.Conn, out chan<- []byte) {
	scanner := bufio.NewScanner(conn)
	scanner.Buffer(make([]byte, 0, 4096), largest+1)
	for scanner.Scan() {
		// The scanner uses its buffer again.
		line := append([]byte(nil), scanner.Bytes()...)
		out <- append(line, '\n')
	}
	if err := scanner.Err(); err != nil {
		fmt.Fprintln(os.Stderr, conn.RemoteAddr(), err)
	}
}

func runs(conn net.Conn, out chan<- []byte) {
	var rest []byte
	for {
		buffer := make([]byte, len(rest)+chunk)
		copy(buffer, rest)
		n, err := conn.Read(buffer[len(rest):])
		whole := buffer[:len(rest)+n]
		end := bytes.LastIndexByte(whole, '\n') + 1
		if end > 0 {
			out <- whole[:end]
		}
		rest = whole[end:]
		if err != nil {
			if err != io.EOF {
				fmt.Fprintln(os.Stderr, conn.RemoteAddr(), err)
			}
			return
		}
		if len(rest) > largest {
			fmt.Fprintln(os.Stderr, conn.RemoteAddr(), "a line is too long")
			return
		}
	}
}

func main() {
	if len(os.Args) != 4 {
		fail(fmt.Errorf("usage: receiver ADDRESS FILE lines|chunks"))
	}
	handle, bound := lines, inChannel
	switch os.Args[3] {
	case "lines":
	case "chunks":
		handle, bound = runs, chunks
	default:
		fail(fmt.Errorf("%s: lines or chunks", os.Args[3]))
	}
	file, err := os.Create(os.Args[2])
	fail(err)
	listener, err := net.Listen("tcp", os.Args[1])
	fail(err)
	out := make(chan []byte, bound)
	go write(file, out)
	for {
		conn, err := listener.Accept()
		fail(err)
		go func() {
			defer conn.Close()
			handle(conn, out)
		}()
	}
}

// Writes what comes, and flushes when nothing does.
func write(file *os.File, in <-chan []byte) {
	writer := bufio.NewWriterSize(file, chunk)
	for {
		select {
		case some := <-in:
			_, err := writer.Write(some)
			fail(err)
		default:
			fail(writer.Flush())
			_, err := writer.Write(<-in)
			fail(err)
		}
	}
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
