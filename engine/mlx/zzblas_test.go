package mlx
import "testing"
func TestB(t *testing.T){ t.Log(BLAS()) }
