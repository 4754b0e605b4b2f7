package release

// Read reads the frame at the end of an object, of which tail returns the last n bytes, or all of it. It asks
// once, and again for a frame that is larger than [Tail]. It returns nil for an object without a frame.
func Read(tail func(n int64) ([]byte, error)) (*Frame, error) {
	data, err := tail(Tail)
	if err != nil {
		return nil, err
	}
	size, err := FrameSize(data)
	if err != nil {
		return nil, err
	}

	if size+FooterLen > len(data) && len(data) >= Tail {
		if data, err = tail(int64(size + FooterLen)); err != nil {
			return nil, err
		}
	}

	return ParseFrame(data)
}
